"""What the store has of a run is known before anything is loaded: the plan shows it, or the run is refused."""

import io
import re

import pytest
from rich.console import Console

from sendnn_pipeline.app.plan_table import plan_lines, print_plan
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import ArtifactError, BackendError, ConfigError
from sendnn_pipeline.pipeline.cache import program_cache
from sendnn_pipeline.programs.store import store_at
from sendnn_pipeline.programs.times import CompileTimes
from tests.conftest import clean_environ, resolved_run
from tests.served import EAGER_FLOAT32, FLOAT32

NAMES = ["pool[batch=1,len=16]", "pool[batch=4,len=16]", "pool[batch=4,len=48]"]


@pytest.fixture
def words(tiny, tmp_path):
    shapes = "warmup.shapes=[16x1,16x4,48x4]"
    return [*FLOAT32, f"model.path={tiny}", "backend=inductor", f"cache_dir={tmp_path}", shapes]


def publish(resolved, name):
    store = store_at(resolved.run.config.artifacts, resolved.run.cache_dir)
    keys = program_cache(resolved.run, resolved.backend, store, World()).keys
    store.publish(keys.key(name), lambda folder: (folder / "library").write_text("compiled"))


def plan_of(resolved):
    printed = io.StringIO()
    print_plan(Console(file=printed, width=200), resolved, plan_lines(resolved, "2"))
    return printed.getvalue()


def test_all_that_is_missing_is_named_at_once(words):
    with pytest.raises(ArtifactError) as caught:
        resolved_run([*words, "artifacts.require=true"])
    assert str(caught.value) == (
        f"{', '.join(NAMES)} have no artifacts and artifacts.require=true: no artifact of this Program yet "
        "(set by artifacts.require=true); compile first with pipeline=precompile"
    )
    assert caught.value.details == ()
    publish(resolved_run(words), NAMES[1])
    with pytest.raises(ArtifactError) as caught:
        resolved_run([*words, "artifacts.require=true"])
    assert NAMES[1] not in str(caught.value) and NAMES[2] in str(caught.value)


def test_the_nearest_are_compared_field_by_field(words):
    """Of the first Program that is missing; what differs is marked, and what is the same is shown once."""
    publish(resolved_run([*words, "engine.pooling=cls"]), NAMES[0])
    publish(resolved_run([*words, "engine.pooling=cls"]), NAMES[2])
    with pytest.raises(ArtifactError) as caught:
        resolved_run([*words, "artifacts.require=true"])
    assert f"{NAMES[0]}: pooling is cls" in str(caught.value)
    title, *rows = caught.value.details
    assert title == "the nearest of what there is, ≠ where it differs:"
    cells = {row[0]: row[1:] for row in (re.split(r"  +", line.strip()) for line in rows)}
    assert cells["program"] == [NAMES[0], NAMES[0], f"≠ {NAMES[2]}"]
    assert cells["dtype"] == ["float32"] * 3
    mean, *others = cells["pooling"]
    assert mean.startswith("mean") and all(other.startswith("≠ cls") for other in others)
    assert [name for name, (_, one, _) in list(cells.items())[1:] if one.startswith("≠")] == ["pooling"]


def test_another_dtype_is_the_cause_and_its_key_what_to_do(words):
    """Frozen for bfloat16 the model's digest is of its weights: that differs because the dtype does."""
    for name in NAMES:
        publish(resolved_run(words), name)
    with pytest.raises(ArtifactError) as caught:
        resolved_run([*words, "model.dtype=bfloat16", "artifacts.require=true"])
    assert "artifacts.require=true: dtype is float32 there and bfloat16 here (set by" in str(caught.value)
    assert str(caught.value).endswith("pipeline=precompile, or set model.dtype to what there is")


def test_a_backend_that_is_not_installed_is_named_before_what_it_has_not_compiled(tiny, tmp_path):
    words = (*FLOAT32, f"model.path={tiny}", f"cache_dir={tmp_path}", "backend=sendnn", "model.dtype=float16")
    with pytest.raises(BackendError, match=r"^backend=sendnn needs torch_sendnn, which is not importable"):
        resolved_run([*words, "artifacts.require=true"])


def test_a_run_that_is_not_compiled_has_nothing_to_export(words, tiny, tmp_path, in_process):
    ended = in_process("catalog", "export", str(tmp_path / "run.artifacts"), *words)
    reasons = "; ".join(f"{name}: no artifact of this Program yet" for name in NAMES)
    hint = "compile it first, by the same words with pipeline=precompile"
    assert (ended.returncode, ended.stderr) == (1, f"error: nothing to export of this run: {reasons}; {hint}\n")
    ended = in_process("catalog", "export", str(tmp_path / "run.artifacts"), *EAGER_FLOAT32, f"model.path={tiny}")
    assert ended.stderr.endswith("; choose a backend that keeps artifacts, such as backend=inductor\n")
    assert not (tmp_path / "run.artifacts").exists()


def test_what_is_imported_again_was_there_already(words, tmp_path, in_process):
    for name in NAMES[:2]:
        publish(resolved_run(words), name)
    file, there = str(tmp_path / "all.artifacts"), f"artifacts.dir={tmp_path / 'there'}"
    assert in_process("catalog", "export", file, words[-2]).returncode == 0
    first, again = (in_process("catalog", "import", file, there).stdout.splitlines() for _ in range(2))
    assert [line.split()[0] for line in first] == ["imported", "imported", "into"]
    assert [line.split()[:2] for line in again[:2]] == [["already", "there"]] * 2
    assert in_process("catalog", "verify", there).stdout == "2 artifacts, 0 not to be used\n"


def test_what_is_required_is_verified_before_anything_is_loaded(words):
    resolved = resolved_run([*words, "warmup.shapes=[16x1]"])
    publish(resolved, NAMES[0])
    required = [*words, "warmup.shapes=[16x1]", "artifacts.require=true"]
    assert not resolved_run(required).missing
    (library,) = resolved.run.cache_dir.glob("artifacts/*/library")
    library.write_text("Compiled")
    with pytest.raises(ArtifactError, match="library is not what was published"):
        resolved_run(required)


def test_the_plan_prices_only_what_has_to_be_compiled(words):
    first = resolved_run(words)
    assert list(first.missing) == NAMES and "compile not all measured yet" in plan_of(first)
    CompileTimes(first.run.cache_dir).record(first.run.timing_prefix, dict.fromkeys(NAMES, 20.0))
    publish(first, NAMES[0])
    shown = plan_of(resolved_run(words))
    rows = [re.split(r"  +", line.strip()) for line in shown.splitlines() if line.startswith("pool[")]
    assert rows == [[NAMES[0], "yes", "none"], [NAMES[1], "no", "20.0 s"], [NAMES[2], "no", "20.0 s"]]
    assert "; compile about 40 s" in shown
    for name in NAMES[1:]:
        publish(first, name)
    assert "nothing to compile" in plan_of(resolved_run([*words, "artifacts.require=true"]))


def test_decoders_that_must_be_compiled_already_are_all_of_generation(llama, tmp_path, tiny):
    """The registry's variable is of decoders: another engine says that it is not used, and how all are required."""
    variable = clean_environ() | {"SENDNN_INFERENCE_REQUIRE_PRECOMPILED_DECODERS": "1"}
    words = [*FLOAT32, "backend=inductor", f"cache_dir={tmp_path}"]
    with pytest.raises(ArtifactError, match=r"\(set by SENDNN_INFERENCE_REQUIRE_PRECOMPILED_DECODERS\); compile first"):
        resolved_run([*words, f"model.path={llama}"], variable)
    with pytest.raises(ConfigError, match=r"decoders=true and artifacts\.enabled=false exclude each other"):
        resolved_run([*words, f"model.path={llama}", "artifacts.enabled=false"], variable)
    notices = resolved_run([*words, f"model.path={tiny}"], variable).draft.notices
    assert any("not used by this run" in line and "artifacts.require=true is for every" in line for line in notices)


def test_a_backend_that_keeps_nothing_says_so(tiny):
    shown = plan_of(resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", "warmup.shapes=[16x1]"]))
    assert re.search(r"pool\[batch=1,len=16\] +never ", shown)
