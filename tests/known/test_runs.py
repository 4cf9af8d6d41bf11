"""Known configurations in whole runs: files of users, short forms, profiles, and what is read at all."""

import json
import subprocess
import sys

import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import ConfigError
from tests.conftest import clean_environ, resolved_run
from tests.known.test_entry import entry
from tests.served import EAGER_FLOAT32, ECHO, FLOAT32, environment, with_echo


def words_of(model):
    return *EAGER_FLOAT32, f"model.path={model}"


def test_a_whole_run_takes_a_user_s_file_and_says_so(tiny, tmp_path, in_process, echo_run):
    model = json.loads((tiny / "config.json").read_text())
    file = tmp_path / "mine.yaml"
    runtime = {"warmup.shapes": ["16x2", "48x2"], "scheduler.max_num_batched_tokens": 96}
    match = {"model_type": "bert", "num_hidden_layers": model["num_hidden_layers"]}
    file.write_text(json.dumps([entry("mine", aliases=["ours"], match=match, runtimes=[runtime])]))
    words = (*words_of(tiny), f"known.file={file}")
    echo = (*words, "engine=echo", "pipeline=precompile", "known.require=true", "known=ours")
    ended = echo_run(*echo)
    assert ended.returncode == 0, ended.stderr
    assert f"known    mine  ({file} fits the model's config.json; also known as ours)" in ended.stdout
    explained = in_process("explain", "scheduler.max_num_batched_tokens", *words)
    assert "= 96\n" in explained.stdout and f"  from mine ({file}) (known)" in explained.stdout, explained.stdout
    programs = resolved_run([*words]).run.plan.programs
    assert [program.name for program in programs] == ["pool[batch=2,len=16]", "pool[batch=2,len=48]"]
    (notice, *_) = resolved_run([*words, "scheduler.max_num_batched_tokens=64"]).draft.notices
    assert notice.startswith("known configuration mine has scheduler.max_num_batched_tokens=96, and this run 64")
    assert resolved_run([*words, "known=none"]).run.config.scheduler.max_num_batched_tokens != 96


def test_what_is_required_and_not_known_ends_the_run(tiny, in_process):
    refused = in_process(*words_of(tiny), SENDNN_INFERENCE_REQUIRE_KNOWN_CONFIG="1")
    assert refused.returncode == 2 and "load" not in refused.stdout
    assert "no known configuration fits this bert model" in refused.stderr
    assert "SENDNN_INFERENCE_REQUIRE_KNOWN_CONFIG" in refused.stderr


def test_a_file_that_cannot_be_used_is_one_line(tiny, tmp_path, in_process):
    missing = in_process(*words_of(tiny), SENDNN_INFERENCE_MODEL_CONFIG_FILE="/nowhere.yaml")
    assert missing.returncode == 2
    assert "known.file=/nowhere.yaml is not a file (set by SENDNN_INFERENCE_MODEL_CONFIG_FILE)" in missing.stderr
    file = tmp_path / "bad.yaml"
    for content, says in (
        ("a: [", "bad.yaml cannot be read as YAML"),
        (json.dumps(entry("odd", size=1)), f"{file}: odd: Object contains unknown field `size`"),
        (json.dumps(entry("odd", runtimes=[{"serve.prot": 1}])), "sets the unknown key serve.prot"),
        (
            json.dumps(entry("odd", runtimes=[{"serve.port": "many"}])),
            f"serve.port=many must be int (set by odd ({file}))",
        ),
        (
            json.dumps(entry("odd", runtimes=[{"serve.port": 70000}])),
            f"serve.port=70000 must be int <= 65535 (set by odd ({file}))",
        ),
    ):
        file.write_text(content)
        ended = in_process(*words_of(tiny), f"known.file={file}")
        assert ended.returncode == 2 and says in ended.stderr and len(ended.stderr.splitlines()) == 1, ended.stderr


def test_a_file_that_is_not_used_is_a_note(tiny):
    notices = resolved_run([*words_of(tiny), "known.file=/nowhere.yaml", "known=none"]).draft.notices
    assert notices == [
        "known.file (set by known.file=/nowhere.yaml) is not used by this run: known=none disables known configurations"
    ]


@pytest.mark.parametrize(
    ("words", "variables", "where"),
    [
        (["known=none"], {}, "known.name=none"),
        (["known.name=none"], {}, "known.name=none"),
        ([], {"SENDNN_PIPELINE__known": "none"}, "SENDNN_PIPELINE__known"),
        ([], {"SENDNN_PIPELINE__known__name": "none"}, "SENDNN_PIPELINE__known__name"),
        (["known=none"], {"SENDNN_PIPELINE__known": "auto"}, "known.name=none"),
    ],
)
def test_the_short_form_works_on_the_command_line_and_in_variables(words, variables, where):
    draft = load_context(clean_environ(**variables)).compose(parse_overrides(words)).draft
    assert draft["known.name"] == "none" and draft.where("known.name") == where


def test_the_short_form_works_in_sweeps(tiny, tmp_path, echo_run):
    swept = echo_run(
        *("-m", *ECHO, f"model.path={tiny}", "known=none,auto", "pipeline=precompile"),
        f"hydra.sweep.dir={tmp_path}",
        **with_echo(),
    )
    assert swept.returncode == 0, swept.stdout + swept.stderr
    for job, name in enumerate(("none", "auto")):
        assert f"job {job}: " in swept.stdout and f"known.name={name}" in swept.stdout


@pytest.mark.parametrize(
    ("profile", "form"),
    [
        ("defaults: [override /known: none]", "known: {name: NAME}"),
        ("defaults: [override known: none]", "known: {name: NAME}"),
        ("defaults: [/known: none]", "known: {name: none}"),
        ("known: none", "known: {name: none}"),
    ],
)
def test_a_profile_with_the_short_form_is_told_the_right_one(tmp_path, profile, form):
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "site.yaml").write_text(f"# @package _global_\n{profile}\n")
    with pytest.raises(ConfigError) as caught:
        load_context(clean_environ(), str(tmp_path)).compose(parse_overrides(["profile=site"]))
    said = str(caught.value)
    assert said.startswith(f"known has no options to choose from in a file (set by {tmp_path}/profile/site.yaml")
    assert said.endswith(f"; write '{form}' below the defaults list")


def test_the_folder_of_config_dir_joins(tiny, tmp_path, in_process):
    (tmp_path / "known").mkdir()
    file = tmp_path / "known" / "site.yaml"
    file.write_text(json.dumps(entry("site", runtimes=[{"serve.max_queue": 77}])))
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "site.yaml").write_text("# @package _global_\nknown: {name: site}\n")
    explained = in_process("explain", "serve.max_queue", *words_of(tiny), "--config-dir", str(tmp_path), "profile=site")
    assert explained.stdout.startswith("serve.max_queue = 77\n"), explained.stderr
    assert f"\n  from site ({file}) (known)\n" in explained.stdout
    file.write_text(json.dumps(entry("granite-4.2-8b")))
    twice = in_process("explain", "known", *words_of(tiny), "--config-dir", str(tmp_path), "known=granite-4.2-8b")
    assert f"granite-4.2-8b is defined by conf/known/granite-4-8b-dense.yaml and {file}" in twice.stderr


READ = """
import sys
parsed, opened = [], []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import sendnn_pipeline.known.entry as entry
parse = entry._parse
entry._parse = lambda text, file: (parsed.append(file.stem), parse(text, file))[1]
from sendnn_pipeline.__main__ import main
try:
    main()
except SystemExit:
    # A configuration of other machines is refused once it is read.
    pass
print("parsed", len(parsed), "opened", sum("/known/" in name and name.endswith(".yaml") for name in opened))
print("config.json", sum(name.endswith("/config.json") and "1_Pooling" not in name for name in opened))
"""


@pytest.mark.parametrize(
    ("words", "parsed", "opened"),
    [
        (["backend=eager", "known=none"], 0, 0),
        (["backend=eager"], 0, 21),
        (["backend=eager", "known=bge-reranker-large"], 21, 21),
    ],
)
def test_files_are_read_only_where_they_may_matter(tiny, words, parsed, opened):
    arguments = ["explain", "known.name", *FLOAT32, f"model.path={tiny}", *words]
    code = f"import sys; sys.argv = ['x', *{arguments!r}]\n{READ}"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment(), check=False
    )
    assert ended.stdout.splitlines()[-2:] == [f"parsed {parsed} opened {opened}", "config.json 1"], ended.stderr
