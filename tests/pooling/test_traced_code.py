"""That the key of a compiled Program holds all code of ours that decides what is compiled."""

import shutil
import sys
from pathlib import Path

import pytest

import sendnn_pipeline
from sendnn_pipeline.backends.export import export_graph
from sendnn_pipeline.models.weights import CheckpointWeights
from sendnn_pipeline.pooling import plan
from sendnn_pipeline.pooling.graphs import PoolingGraphs
from tests.conftest import resolved_run
from tests.served import FLOAT32

PACKAGE = Path(sendnn_pipeline.__file__).parent
# Run meanwhile, too, and decide nothing of what comes out: plain data, and weights as they are in their file.
NO_MATTER = {
    "backends/base.py",
    "programs/program.py",
    "engines/plan.py",
    "pooling/config.py",
    "pooling/plan.py",
    "models/weights.py",
    "pooling/shapes.py",
    "files.py",
    "models/json_files.py",
    "pooling/padding_check.py",
    "models/facts.py",
}


def test_what_runs_while_a_graph_is_made_and_traced_is_in_the_key(tiny, classifier):
    ran = set()

    def note(frame, event, argument):
        ran.add(frame.f_code.co_filename)

    for folder in (tiny, classifier):
        run = resolved_run([*FLOAT32, f"model.path={folder}", "backend=inductor"]).run
        weights = CheckpointWeights(run.model.weight_files, "float32")
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            graph = PoolingGraphs(run, weights).graph(run.plan.programs[0])
            export_graph(graph)
            assert graph.parameters()
        finally:
            sys.setprofile(before)
    ours = {str(Path(file).relative_to(PACKAGE)) for file in ran if file.startswith(f"{PACKAGE}/")}
    assert {"pooling/model.py", "pooling/graphs.py", "models/loader.py"} <= ours
    assert ours - NO_MATTER <= set(plan.TRACED)


@pytest.mark.parametrize("changed", plan.TRACED)
def test_a_change_of_such_code_changes_the_key(tmp_path, monkeypatch, changed):
    for name in plan.TRACED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(PACKAGE / name, tmp_path / name)
    with (tmp_path / changed).open("a") as stream:
        stream.write("\n")
    plan._traced_digest.cache_clear()
    before = plan._traced_digest()
    monkeypatch.setattr(plan, "__file__", str(tmp_path / "pooling" / "plan.py"))
    plan._traced_digest.cache_clear()
    try:
        assert plan._traced_digest() != before
    finally:
        plan._traced_digest.cache_clear()


def test_the_digest_is_in_the_key(tiny):
    run = resolved_run([*FLOAT32, f"model.path={tiny}", "backend=inductor"]).run
    assert dict(run.plan.key_fields)["code"] == plan._traced_digest()
