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
from tests.served import EAGER_FLOAT32, sendnn

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
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.multimodal.nnpa import NnpaDevice
from tests.conftest import resolved_run
from tests.multimodal.vision_models import file_of, picture
from tests.served import EAGER_FLOAT32

text, *visions = sys.argv[1:]
SYNC = ("multimodal.dtype=float32", "multimodal.async_encoder=false")
device = NnpaDevice()
assert not device.missing and "torch_nnpa" not in sys.modules
resolved = resolved_run([*EAGER_FLOAT32, f"model.path={text}"])
resolved.engine.open(resolved.run, World())
resolved = resolved_run([*EAGER_FLOAT32, f"model.path={visions[0]}", *SYNC])
assert resolved.run.config.multimodal.device == "nnpa" and "torch_nnpa" not in sys.modules
for fails in ("import", "register", "compute"):
    os.environ["TORCH_NNPA_EMULATOR"] = fails
    try:
        resolved.engine.open(resolved.run, World())
    except EngineError as error:
        print(error)
    if fails != "compute":
        sys.modules.pop("torch_nnpa", None)
    for name in [name for name in sys.modules if name.startswith("torch_nnpa.")]:
        if fails != "compute":
            del sys.modules[name]
import torch_nnpa
torch_nnpa._FAILS = ""
for vision in visions:
    rows = []
    for where in ("auto", "cpu"):
        resolved = resolved_run([*EAGER_FLOAT32, f"model.path={vision}", *SYNC, f"multimodal.device={where}"])
        core = resolved.engine.open(resolved.run, World())
        encoder = core.pictured.desk.encoder
        there = {one.device.type for one in encoder.vision.parameters()}
        assert there == {"nnpa" if where == "auto" else "cpu"}
        rows.append(encoder.encode(file_of(picture(60, 40))))
        core.close()
    torch.testing.assert_close(*rows, atol=1e-4, rtol=1e-4)
print("equal")
"""
EMULATORS = ("torch_nnpa", "torch_nnpa_strict")


def with_nnpa(emulator, folder):
    """Return the variables of a process that finds the library, and loads it by none of torch's own ways."""
    return {"PYTHONPATH": install(emulator, folder), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}


@pytest.mark.parametrize("emulator", EMULATORS)
def test_a_device_is_registered_late_once_and_never_replaced_by_the_cpu(emulator, tmp_path, tiny):
    """And pictures are encoded there as on the CPU, whatever the architecture."""
    folders = [make_vision_model(tmp_path / name, name) for name in ("llava_next", "mistral3", "idefics3")]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny), *map(str, folders)],
        env={**os.environ, **with_nnpa(emulator, tmp_path / "site")},
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


@pytest.mark.parametrize(
    ("words", "ranks"),
    [
        # A process of its own is nobody's rank.
        (("parallel.tensor_parallel=2",), ["-"]),
        (
            ("parallel.tensor_parallel=2", "multimodal.async_encoder=false", "multimodal.share_across_ranks=false"),
            ["0", "1"],
        ),
    ],
)
def test_who_registers_the_device_does_so_once_its_ranks_have_met(words, ranks, tmp_path):
    """The strict emulator refuses a rank that comes before, and a process in which torch would have loaded it."""
    folder, log = make_vision_model(tmp_path / "model", "mistral3"), tmp_path / "log"
    site = {**with_nnpa("torch_nnpa_strict", tmp_path / "site"), "TORCH_NNPA_LOG": str(log)}
    # What keeps torch from loading it is the run's own doing.
    del site["TORCH_DEVICE_BACKEND_AUTOLOAD"]
    ended = sendnn(*EAGER_FLOAT32, f"model.path={folder}", "pipeline=precompile", *words, **site)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "encoded on nnpa in float16" in ended.stdout
    found = [line.split() for line in log.read_text().splitlines()]
    assert sorted(rank for rank, _ in found) == ranks
    assert len({pid for _, pid in found}) == len(found)


def test_a_device_that_does_not_work_ends_the_start_and_one_that_nobody_needs_is_not_touched(tmp_path, llama):
    folder = make_vision_model(tmp_path / "model", "mistral3")
    site = {**with_nnpa("torch_nnpa_strict", tmp_path / "site"), "TORCH_NNPA_EMULATOR": "import"}
    words = (*EAGER_FLOAT32, "pipeline=precompile")
    for how in ("true", "false"):
        broken = sendnn(*words, f"model.path={folder}", f"multimodal.async_encoder={how}", **site)
        assert broken.returncode == 1
        says = "nnpa cannot be used: OSError: libzdnn.so: cannot open shared object file; multimodal.device=cpu encodes"
        assert says in broken.stderr.splitlines()[-1]
    assert sendnn(*words, f"model.path={folder}", "multimodal.device=cpu", **site).returncode == 0
    assert sendnn(*words, f"model.path={llama}", **site).returncode == 0
