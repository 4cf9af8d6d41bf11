"""What doctor says of a machine for Spyre: what is missing, and from whom it comes."""

import pytest

from sendnn_pipeline.backends.sendnn import machine
from sendnn_pipeline.backends.sendnn.machine import spyre_findings
from tests.served import EAGER_FLOAT32


def told(tmp_path, *, compiles_only=False, **environ):
    found = list(spyre_findings(environ, compiles_only=compiles_only, vfio=tmp_path / "vfio"))
    return [what for state, what in found if state == "fail"], [what for state, what in found if state == "note"]


def test_a_bare_machine_lacks_everything(tmp_path):
    failed, noted = told(tmp_path)
    assert (
        failed[0] == "torch_sendnn is not importable: it comes with IBM's images for Spyre, and from no package index"
    )
    assert failed[1].startswith(f"{tmp_path}/vfio is missing: the host's administrator binds cards to vfio-pci")
    assert noted[0].startswith("none of AIU_WORLD_SIZE, SPYRE_DEVICES and AIU_WORLD_RANK_0 says which cards there are")
    assert noted[1] == "FLEX_COMPUTE is not set, and hardware is SENTIENT: the image sets it"
    assert told(tmp_path, compiles_only=True) == (failed[:1], noted[2:]) == (failed[:1], [])


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, ("ok", "compiled graphs are stored in artifacts.dir")),
        ({"TORCH_SENDNN_CACHE_DIR": "/graphs"}, ("ok", "compiled graphs are stored in TORCH_SENDNN_CACHE_DIR=/graphs")),
        ({"TORCH_SENDNN_CACHE_ENABLE": "0"}, ("note", "compiled graphs are not stored (TORCH_SENDNN_CACHE_ENABLE=0)")),
    ],
)
def test_where_compiled_graphs_are_stored_is_told(environ, line):
    assert line in list(spyre_findings(environ, compiles_only=True, ranks=1))


def test_every_rank_has_a_card(tmp_path):
    for environ in ({"AIU_WORLD_SIZE": "1"}, {"SPYRE_DEVICES": "2,2"}, {"AIU_WORLD_RANK_0": "0000:1a:00.0"}):
        states = {
            state: what for state, what in spyre_findings(environ, compiles_only=False, ranks=2) if "assign" in what
        }
        assert "2 ranks on this machine take a card each" in states["fail"] and "ok" not in states
    two = {"AIU_WORLD_SIZE": "2", "AIU_WORLD_RANK_0": "0000:1a:00.0", "AIU_WORLD_RANK_1": "0000:1b:00.0"}
    assert (
        "ok",
        "cards are assigned: AIU_WORLD_SIZE=2, AIU_WORLD_RANK_0=0000:1a:00.0 AIU_WORLD_RANK_1=0000:1b:00.0",
    ) in list(spyre_findings(two, compiles_only=False, ranks=2))


def test_what_is_there_is_ok_and_versions_that_do_not_go_together_are_noted(tmp_path, card, monkeypatch):
    (tmp_path / "vfio" / "12").mkdir(parents=True)
    kept = {"TORCH_SENDNN_CACHE_ENABLE": "1", "TORCH_SENDNN_CACHE_DIR": str(tmp_path)}
    environ = {"AIU_WORLD_RANK_0": "0000:1a:00.0", "FLEX_COMPUTE": "SENTIENT", **kept}
    failed, (noted,) = told(tmp_path, **environ)
    assert not failed and noted.startswith("torch_sendnn 1.2.0 goes with torch 2.10.0, and this is torch 2.")
    monkeypatch.setattr(machine, "version", lambda name: "2.10.0+cpu")
    assert told(tmp_path, **environ) == ([], [])
    monkeypatch.setattr(machine, "library_version", lambda: "9.0")
    assert "torch_sendnn 9.0 with torch 2.10.0+cpu: not known to go together" in told(tmp_path, **environ)[1]
    (tmp_path / "vfio" / "12").rmdir()
    assert "has no group of a card" in told(tmp_path, **environ)[0][0]


def test_doctor_says_it_where_a_run_is_for_spyre(tiny, in_process):
    words = ("doctor", *EAGER_FLOAT32, f"model.path={tiny}")
    shown = in_process(*words, "backend=sendnn", TESTS_CPU_ANSWER="float32")
    assert shown.returncode == 1 and "fail torch_sendnn is not importable: it comes with IBM's images" in shown.stdout
    assert "torch_sendnn" not in in_process(*words, TESTS_CPU_ANSWER="float32").stdout
