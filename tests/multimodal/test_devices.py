"""Where images are encoded and in which dtype: the registry's rules, each a row, and an emulator of the device."""

import os
import subprocess
import sys

import pytest

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.multimodal import nnpa
from sendnn_pipeline.multimodal.devices import autoload_environment, device_registry, resolve_device, resolve_dtype
from tests.conftest import clean_environ, resolved_run
from tests.contract.tables import own_context
from tests.emulators.install import install
from tests.multimodal.vision_models import make_vision_model
from tests.served import EAGER_FLOAT32

MISSING = "multimodal.device=nnpa: torch_nnpa is not installed; install it, or use cpu or auto"
UNKNOWN = "no plugin provides multimodal device npu; known: cpu, nnpa"


@pytest.fixture
def findable(monkeypatch):
    return lambda there: monkeypatch.setattr(nnpa, "find_spec", lambda name: object() if there else None)


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("cpu", False, "cpu"),
        ("CPU", True, "cpu"),
        ("auto", False, "cpu"),
        ("auto", True, "nnpa"),
        ("NNPA", True, "nnpa"),
    ],
)
def test_the_device_that_is_meant(findable, wanted, there, found):
    findable(there)
    assert resolve_device(wanted, device_registry(own_context().plugins))[0] == found
    assert "torch_nnpa" not in sys.modules


@pytest.mark.parametrize(("wanted", "message"), [("nnpa", MISSING), ("npu", UNKNOWN)])
def test_a_device_that_is_not_here_is_an_error_where_it_is_named(findable, wanted, message):
    findable(False)
    with pytest.raises(ConfigError) as caught:
        resolve_device(wanted, device_registry(own_context().plugins))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("wanted", "machine", "found"),
    [
        ("auto", "s390x", "float32"),
        ("auto", "ppc64le", "float32"),
        ("auto", "x86_64", "float16"),
        ("auto", "aarch64", "float16"),
        ("bfloat16", "s390x", "bfloat16"),
    ],
)
def test_the_dtype_of_a_machine(wanted, machine, found):
    assert resolve_dtype(wanted, machine)[0] == found


def test_torch_does_not_load_the_library_by_itself_where_it_is_there(monkeypatch):
    assert autoload_environment({}) == {}
    monkeypatch.setattr("sendnn_pipeline.multimodal.devices.find_spec", lambda name: object())
    assert autoload_environment({}) == {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    assert autoload_environment({"TORCH_DEVICE_BACKEND_AUTOLOAD": "1"}) == {}


def test_variables_land_on_a_model_that_reads_images_and_are_noted_for_one_that_does_not(tmp_path, tiny):
    folder = make_vision_model(tmp_path / "vision", "llava_next")
    environ = clean_environ(SENDNN_INFERENCE_MM_DEVICE="CPU", SENDNN_INFERENCE_CPU_MM_DTYPE="bfloat16")
    config = resolved_run([*EAGER_FLOAT32, f"model.path={folder}"], environ).run.config.multimodal
    assert (config.device, config.dtype) == ("cpu", "bfloat16")
    with pytest.raises(ConfigError, match="SENDNN_INFERENCE_MM_DEVICE"):
        resolved_run([*EAGER_FLOAT32, f"model.path={folder}"], clean_environ(SENDNN_INFERENCE_MM_DEVICE="nnpa"))
    for text in ("Float16", "foo"):
        with pytest.raises(ConfigError, match="SENDNN_INFERENCE_CPU_MM_DTYPE"):
            resolved_run([*EAGER_FLOAT32, f"model.path={tiny}"], clean_environ(SENDNN_INFERENCE_CPU_MM_DTYPE=text))
    notices = resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", "multimodal.device=nnpa"]).draft.notices
    assert any(notice.startswith("multimodal.device (set by multimodal.device=nnpa) is not used") for notice in notices)


SCRIPT = """
import os, sys
import torch
from pathlib import Path
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.multimodal.nnpa import NnpaDevice
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32

text, vision = sys.argv[1:]
SYNC = ("multimodal.dtype=float32", "multimodal.async_encoder=false")
device = NnpaDevice()
assert not device.missing and "torch_nnpa" not in sys.modules
resolved = resolved_run([*EAGER_FLOAT32, f"model.path={text}"])
resolved.engine.open(resolved.run, World())
resolved = resolved_run([*EAGER_FLOAT32, f"model.path={vision}", *SYNC])
assert resolved.run.config.multimodal.device == "nnpa" and "torch_nnpa" not in sys.modules
for fails in ("import", "register", "compute"):
    os.environ["TORCH_NNPA_EMULATOR"] = fails
    try:
        resolved.engine.open(resolved.run, World())
    except EngineError as error:
        print(error)
    if fails != "compute":
        sys.modules.pop("torch_nnpa", None)
import torch_nnpa
torch_nnpa._FAILS = ""
core = resolved.engine.open(resolved.run, World())
vision = core.pictured.desk.encode.__self__.vision
assert {parameter.device.type for parameter in vision.parameters()} == {"nnpa"}
projector = vision.multi_modal_projector
features = torch.randn(5, projector.linear_1.in_features)
with torch.no_grad():
    rows = projector(features.to("nnpa")).to("cpu")
    torch.testing.assert_close(rows, projector.to("cpu")(features))
print("equal")
"""


def test_a_device_is_registered_late_and_never_replaced_by_the_cpu(tmp_path, tiny):
    folder = make_vision_model(tmp_path / "vision", "llava_next")
    environ = {
        **os.environ,
        "PYTHONPATH": install("torch_nnpa", tmp_path / "site"),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
    }
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny), str(folder)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    begin = "torch_nnpa is installed, but nnpa cannot be used: "
    assert [line.split(";")[0] for line in lines] == [
        f"{begin}OSError: libzdnn.so: cannot open shared object file",
        f"{begin}RuntimeError: nnpa: no hooks interface",
        f"{begin}RuntimeError: zdnn_get_status: function not available",
        "equal",
    ]
    assert all(line.endswith("multimodal.device=cpu encodes on the CPU") for line in lines[:3])
