"""What a batch reads and what it must never write: links, pipes, encodings, and what tells one piece of work apart."""

import contextlib
import gzip
import json
import lzma
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from sendnn_pipeline.batch.lines import read_lines
from tests.reference import mean_pooled_ids
from tests.served import EAGER_FLOAT32, ECHO, ECHO_FOLDER, ROOT, environment, with_echo

TEXTS = ["hello world", "a b c", "the world"]


@pytest.fixture
def words(tiny):
    return ("serve=batch", *ECHO, f"model.path={tiny}")


@pytest.fixture
def checked(in_process, monkeypatch):
    """The command line in this process, for what ends before anything is started."""
    monkeypatch.syspath_prepend(ECHO_FOLDER)
    return in_process


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


@contextlib.contextmanager
def started(*words, **options):
    """A batch that runs while the block does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sendnn_pipeline", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(**with_echo()),
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def echoed(output):
    return [json.loads(line)["echo"] for line in output.read_text().splitlines()]


def wait_for(process, word):
    """Read its output up to a line with a word."""
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"it ended without {word}")


def test_the_input_is_never_written_by_whatever_name(words, source, checked, tmp_path):
    before = source.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(source)
    (tmp_path / "hard.jsonl").hardlink_to(source)
    side = tmp_path / "other.jsonl.errors.jsonl"
    shutil.copy(source, side)
    pairs = [
        (source, source),
        (source, tmp_path / "link.jsonl"),
        (tmp_path / "link.jsonl", source),
        (source, tmp_path / "hard.jsonl"),
        (source, tmp_path / ".." / tmp_path.name / "in.jsonl"),
        (side, tmp_path / "other.jsonl"),
    ]
    for given, output in pairs:
        ended = checked(*words, f"serve.input={given}", f"serve.output={output}", "serve.overwrite=true")
        assert ended.returncode == 2 and "which is serve.input=" in ended.stderr, (given, output, ended.stderr)
        assert "load" not in ended.stdout
    assert source.read_bytes() == side.read_bytes() == before


def test_a_run_goes_on_only_with_the_same_model_and_the_same_input(tiny, source, tmp_path, checked, echo_run):
    from safetensors.numpy import load_file, save_file

    folder, output = shutil.copytree(tiny, tmp_path / "model"), tmp_path / "out.jsonl"
    words = ["serve=batch", *ECHO, f"model.path={folder}", f"serve.input={source}", f"serve.output={output}"]
    assert echo_run(*words).returncode == 0

    def refused():
        ended = echo_run(*words)
        assert ended.returncode == 2 and "load" not in ended.stdout
        return ended.stderr

    file, tensors = folder / "model.safetensors", load_file(folder / "model.safetensors")
    facts = file.stat()
    name = "embeddings.LayerNorm.weight"
    save_file(tensors | {name: tensors[name] + 1}, file, metadata={"format": "pt"})
    assert file.stat().st_size == facts.st_size
    assert "was begun with the model's files=" in refused()
    save_file(tensors, file, metadata={"format": "pt"})
    assert echo_run(*words).returncode == 0
    text = source.read_text()
    source.write_text(text.replace("hello", "jello"))
    assert "was begun with changed=" in refused()
    source.write_text(text + json.dumps("more") + "\n")
    assert "was begun with bytes=" in refused()


@pytest.mark.parametrize("ending", [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_what_is_stopped_before_its_first_line_can_be_asked_again(words, source, tmp_path, ending, echo_run):
    sent, code = ending
    words = [*words, f"serve.input={source}", f"serve.output={tmp_path / 'out.jsonl'}"]
    with started(*words, "engine.hang=load") as process:
        wait_for(process, "load …")
        process.send_signal(sent)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == code and "run the same command again to go on" in printed
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    again = echo_run(*words)
    assert again.returncode == 0, again.stderr
    assert echoed(tmp_path / "out.jsonl") == [[text] for text in TEXTS]


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_pipe_is_read_and_said_to_be_read_once(words, source, tmp_path, name):
    words = [*words, f"serve.input={name}", f"serve.output={tmp_path / 'out.jsonl'}"]
    with started(*words, stdin=subprocess.PIPE) as process:
        printed, _ = process.communicate(source.read_text(), timeout=60)
        assert process.returncode == 0, printed
        assert f"serve.input={name} is a pipe: a run that is stopped has to start over" in printed
    assert echoed(tmp_path / "out.jsonl") == [[text] for text in TEXTS]
    with started(*words, stdin=subprocess.PIPE) as process:
        printed, _ = process.communicate(source.read_text(), timeout=60)
        assert process.returncode == 2 and "serve.overwrite=true" in printed
    # A file is one, also where the shell hands it over.
    more = [*words, "serve.overwrite=true"]
    with source.open() as stdin, started(*more, stdin=stdin) as process:
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "is a pipe" not in printed, printed


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
@pytest.mark.parametrize("written", [False, True])
def test_signals_end_a_batch_that_waits_for_a_pipe(words, tmp_path, sent, code, written):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = [*words, f"serve.input={fifo}", f"serve.output={tmp_path / 'out.jsonl'}", "serve.chunk_lines=1"]
    with started(*words) as process, contextlib.ExitStack() as writing:
        wait_for(process, "warmup done")
        if written:
            # Opens once the batch has.
            writer = writing.enter_context(fifo.open("w"))
            writer.write('"hello"\n')
            writer.flush()
        process.send_signal(sent)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == code and "serve.overwrite=true" in printed, printed


def test_a_byte_order_mark_is_skipped_and_other_encodings_are_one_line(words, source, tmp_path, checked, echo_run):
    text = source.read_text()
    source.write_bytes(text.encode("utf-8-sig"))
    files = [f"serve.input={source}", f"serve.output={tmp_path / 'out.jsonl'}"]
    ended = echo_run(*words, *files)
    assert ended.returncode == 0 and "bad" not in ended.stdout, ended.stdout
    assert echoed(tmp_path / "out.jsonl") == [[one] for one in TEXTS]
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        source.write_bytes(text.encode(encoding))
        ended = checked(*words, *files, "serve.overwrite=true", **with_echo())
        assert ended.returncode == 2 and "save it as UTF-8" in ended.stderr and "load" not in ended.stdout
    with started(*words, "serve.input=-", f"serve.output={tmp_path / 'o.jsonl'}", stdin=subprocess.PIPE) as process:
        process.stdin.buffer.write(text.encode("utf-16"))
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 1 and "save it as UTF-8" in printed


@pytest.mark.parametrize(
    ("text", "lines", "reason"),
    [
        ("text,label\nhello world,1\n", "2 lines", "in line 1, it is not JSON"),
        ('\n{"txt": "a"}\n{"txt": "b"}\n', "2 lines", "in line 2, it has nothing that a route of the engine takes"),
        ('{"custom_id": "a", "url": "/v1/nothing", "body": {}}\n', "1 line", "in line 1, its url is '/v1/nothing'"),
    ],
)
def test_a_file_without_a_good_line_is_the_wrong_file(words, source, echo_run, text, lines, reason):  # noqa: PLR0917
    output = source.with_name("out.jsonl")
    source.write_text(text)
    words = [*words, f"serve.input={source}", f"serve.output={output}", "serve.chunk_lines=1"]
    for first in (True, False):
        ended = echo_run(*words)
        assert ended.returncode == 1, ended.stdout
        (error,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert error.startswith(f"error: serve.input={source} has {lines} and no good one")
        assert (reason in error) == first and error.endswith(f"; {output}.errors.jsonl has the reasons")
    source.write_text(f"{text}{json.dumps(TEXTS[0])}\n")
    ended = echo_run(*words, "serve.overwrite=true")
    assert ended.returncode == 0 and f"{lines[0]} of them bad" in ended.stdout, ended.stderr
    source.write_text("\n")
    assert echo_run(*words, "serve.overwrite=true").returncode == 0


@pytest.mark.parametrize("program", ["gzip", "zip", "xz", "zstd"])
def test_a_compressed_file_is_refused_before_anything_is_loaded(words, source, tmp_path, checked, program):
    text = source.read_bytes()
    if program == "zip":
        with zipfile.ZipFile(source, "w") as made:
            made.writestr("in.jsonl", text)
    elif program == "zstd":
        # The magic number and more, by RFC 8878.
        source.write_bytes(b"\x28\xb5\x2f\xfd\x20" + text)
    else:
        source.write_bytes({"gzip": gzip.compress, "xz": lzma.compress}[program](text))
    ended = checked(*words, f"serve.input={source}", f"serve.output={tmp_path / 'out.jsonl'}")
    assert ended.returncode == 2 and "load" not in ended.stdout
    assert f"cannot be read: it is compressed by {program}: unpack it first" in ended.stderr


def test_a_compressed_pipe_is_refused(words, source, tmp_path):
    with started(*words, "serve.input=-", f"serve.output={tmp_path / 'o.jsonl'}", stdin=subprocess.PIPE) as process:
        process.stdin.buffer.write(gzip.compress(source.read_bytes()))
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 1 and "it is compressed by gzip: unpack it first" in printed


def test_offsets_count_the_mark(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_bytes(b'\xef\xbb\xbf"a"\n"b"\n')
    with file.open("rb") as stream:
        first, second = read_lines(stream, 0, 1)
    assert (first.value, second.value) == ({"text": "a"}, {"text": "b"}) and (first.end, second.end) == (7, 11)
    with file.open("rb") as stream:
        stream.seek(first.end)
        assert list(read_lines(stream, first.end, 2)) == [second]


def test_a_full_disk_is_one_line_and_the_run_goes_on(words, tmp_path, echo_run):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": f"hello {number % 10}"}) + "\n" for number in range(2000)))
    words = [*words, f"serve.input={source}", f"serve.output={output}", "serve.chunk_lines=50"]

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    with started(*words, preexec_fn=small_disk) as process:
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in printed and "Exception ignored" not in printed, printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "cannot be written any more" in line and "run the same command again" in line
    ended = echo_run(*words)
    assert ended.returncode == 0 and "going on at line" in ended.stdout, ended.stderr
    assert echoed(output) == [[f"hello {number % 10}"] for number in range(2000)]


def test_a_line_is_asked_as_the_route_is_over_http(served_tiny, tiny, tmp_path, whole_run):
    row = [2, 9, 3]
    bodies = [
        {"input": [row]},
        {"input": [row], "model": served_tiny.get("/v1/models").json()["data"][0]["id"]},
        {"input": [row], "model": "gpt"},
        {"input": [row], "encoding_format": "base64"},
        {"input": [row], "encoding_format": "int8"},
        {"input": [row], "dimensions": 8},
        {"input": [row], "dimensions": 32},
        {"input": [row * 100]},
        {"input": [row * 100], "truncate_prompt_tokens": 5},
        {"input": [row], "truncate_prompt_tokens": 0},
    ]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked = [{"custom_id": str(n), "url": "/v1/embeddings", "body": body} for n, body in enumerate(bodies)]
    lines = [*asked, *({"id": number, **body} for number, body in enumerate(bodies))]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [*EAGER_FLOAT32, f"model.path={tiny}", "warmup.shapes=[16x1,16x4,48x4]"]
    ended = whole_run("serve=batch", *words, f"serve.input={source}", f"serve.output={output}")
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    of_form, own = answers[: len(bodies)], {one["id"]: one for one in answers[len(bodies) :]}
    for number, (body, line) in enumerate(zip(bodies, of_form, strict=True)):
        over_http = served_tiny.post("/v1/embeddings", json=body)
        if over_http.status_code != 200:
            assert line["error"] is None and number not in own
            assert line["response"]["status_code"] == over_http.status_code
            assert line["response"]["body"] == over_http.json(), body
            continue
        wanted = over_http.json()["data"][0]["embedding"]
        assert line["response"]["body"]["usage"] == over_http.json()["usage"]
        for found in (line["response"]["body"]["data"][0]["embedding"], own[number]["embedding"]):
            if isinstance(wanted, str):
                assert isinstance(found, str)
            else:
                assert np.allclose(found, wanted, atol=1e-6)
    assert np.allclose(own[0]["embedding"], mean_pooled_ids(tiny, [row])[0], atol=1e-5)
