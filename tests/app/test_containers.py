"""What a container leaves out: a home, a name for the user, a locale, room in TMPDIR's name."""

import pwd
import shutil
import subprocess
import sys

import pytest

from sendnn_pipeline.app.composed import cache_dir_of
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.models.packages import download_wheel
from tests.served import EAGER_FLOAT32, ECHO, ROOT, environment, sendnn, with_echo

PRECOMPILE = (*ECHO, "pipeline=precompile")
# A uid that no user has, as Kubernetes and OpenShift give; the files stay this user's.
UNSHARE = shutil.which("unshare")
AS_UNKNOWN_USER = ("unshare", "--user", "--map-user=54321", "--map-group=0")


@pytest.fixture
def without_home(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_the_cache_needs_a_folder(without_home):
    with pytest.raises(ConfigError, match=r"no home folder ~; set cache_dir .* or HOME$"):
        cache_dir_of(None, {})
    assert str(cache_dir_of("/var/cache/x", {})) == "/var/cache/x"
    assert str(cache_dir_of(None, {"XDG_CACHE_HOME": "/var/cache"})) == "/var/cache/sendnn_pipeline"


def test_without_a_home_pip_has_the_folder_that_it_downloads_into(without_home, monkeypatch, tmp_path):
    def download(command, env, **options):
        (tmp_path / "a-1.0-py3-none-any.whl").write_bytes(b"")
        homes.append(env["HOME"])
        return subprocess.CompletedProcess(command, 0)

    homes = []
    monkeypatch.setattr(subprocess, "run", download)
    download_wheel("a==1.0", tmp_path, None)
    monkeypatch.setenv("HOME", "/home/me")
    download_wheel("a==1.0", tmp_path, None)
    assert homes == [str(tmp_path), "/home/me"]


@pytest.fixture
def as_unknown_user():
    """Return the words before a command."""
    tried = subprocess.run([*AS_UNKNOWN_USER, "true"], check=False, capture_output=True) if UNSHARE else None
    if tried is None or tried.returncode:
        pytest.skip("user namespaces are not to be had here")
    return AS_UNKNOWN_USER


def test_an_unknown_user_without_a_home_runs_with_a_cache_dir(as_unknown_user, tiny, tmp_path):
    variables = environment(**with_echo())
    del variables["HOME"]
    command = [*as_unknown_user, sys.executable, "-m", "sendnn_pipeline", *PRECOMPILE]
    command = [*command, f"model.path={tiny}"]
    refused = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 2 and "set cache_dir (SENDNN_PIPELINE__cache_dir) or HOME" in line
    done = subprocess.run(
        [*command, f"cache_dir={tmp_path}"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "is warm" in done.stdout, done.stdout + done.stderr


def test_a_folder_of_options_that_this_user_may_not_read_is_named(as_unknown_user, tiny, tmp_path):
    (tmp_path / "conf" / "profile").mkdir(parents=True)
    command = [*as_unknown_user, sys.executable, "-m", "sendnn_pipeline", "explain", "serve.port", *EAGER_FLOAT32]
    for closed, line in (
        (tmp_path / "conf" / "profile", f"{tmp_path}/conf/profile is not read: this user may not"),
        (tmp_path / "conf", f"error: --config-dir={tmp_path}/conf cannot be read by this user; let it read the folder"),
    ):
        closed.chmod(0)
        try:
            words = [*command, f"model.path={tiny}", "--config-dir", str(tmp_path / "conf")]
            ended = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        finally:
            closed.chmod(0o755)
        assert line in ended.stdout + ended.stderr and "Traceback" not in ended.stderr, ended.stdout + ended.stderr


PATHS = [
    "cache_dir",
    "artifacts.dir",
    "model.path",
    "known.file",
    "serve.api_key_file",
    "metrics.perf_log.dir",
    "warmup.trace",
]


@pytest.mark.parametrize("key", PATHS)
def test_the_home_of_nobody_is_one_line_for_every_path(key, tiny, in_process):
    words = [*EAGER_FLOAT32, f"model.path={tiny}", "pipeline.stages=[load]", "metrics.perf_log.enabled=true"]
    ended = in_process(*words, f"{key}='~nosuch/x'")
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert ended.returncode == 2 and "~nosuch" in line and key in line, ended.stdout + ended.stderr


@pytest.mark.parametrize("key", ["cache_dir", "model.path"])
def test_a_path_that_no_file_system_takes_is_one_line(key, tiny, in_process):
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", f"{key}=/tmp/{'y' * 300}")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and "File name too long" in line


def test_the_name_of_the_temporary_folder_may_be_long(tiny, tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    ended = sendnn(*PRECOMPILE, f"model.path={tiny}", **with_echo(TMPDIR=str(folder)))
    assert ended.returncode == 0 and list(folder.iterdir()) == [], ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_run_goes_through_where_the_locale_has_no_letters(variables, tiny, tmp_path):
    (tmp_path / "profile").mkdir()
    profile = "# @package _global_\nmodel: {served_name: größe}\n"
    (tmp_path / "profile" / "site.yaml").write_text(profile, encoding="utf-8")
    (tmp_path / "key").write_text("schlüssel", encoding="utf-8")
    words = ("--config-dir", str(tmp_path), *PRECOMPILE, f"model.path={tiny}", "profile=site")
    ended = sendnn(*words, f"serve.api_key_file={tmp_path / 'key'}", **with_echo(**variables))
    assert ended.returncode == 0 and "load ?" in ended.stdout and "gr??e is warm" in ended.stdout, ended.stderr
