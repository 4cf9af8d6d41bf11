"""``doctor`` finds what a run would be refused for, also where only the ranks' libraries or the server know it."""

import os

import pytest

from sendnn_pipeline.errors import ModelError, PluginError, ServeError
from sendnn_pipeline.models import dividing
from sendnn_pipeline.server import docs, health, info, models, own_paths, page, tokens
from sendnn_pipeline.server.own_paths import check_paths
from tests.hooks.conftest import site  # noqa: F401  a fixture
from tests.hooks.fake import implement, install
from tests.served import EAGER_FLOAT32

TWO = "parallel.tensor_parallel=2"


def doctor(in_process, *words, **variables):
    ended = in_process("doctor", *words, TESTS_CPU_ANSWER="machine", **variables)
    assert ended.stdout, ended.stderr
    return ended.returncode, ended.stdout.splitlines()[-1]


def test_a_model_that_transformers_does_not_divide(in_process, tiny, llama):
    code, line = doctor(in_process, *EAGER_FLOAT32, f"model.path={tiny}", "serve.port=0", TWO)
    reason = f"{tiny}: transformers has no plan to divide the layers of bert among ranks"
    assert (code, line) == (1, f"fail the run would be refused: {reason}; leave parallel.tensor_parallel at 1")
    code, line = doctor(in_process, *EAGER_FLOAT32, f"model.path={llama}", "serve.port=0", TWO)
    assert (code, line) == (0, f"ok   the run of {llama.name} can start")


def test_a_process_that_cannot_be_asked_says_its_last_words(tiny, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no such library')")
    (tmp_path / "transformers.py").write_text("raise ImportError('no such library')")
    with pytest.raises(ModelError, match="could not be asked whether ranks can divide it: ImportError: no such lib"):
        dividing.check_divides(tiny, {**os.environ, "PYTHONPATH": str(tmp_path)})


def test_a_plugin_s_path_and_a_root_path_in_the_way(in_process, site, tiny):  # noqa: F811
    words = (*EAGER_FLOAT32, f"model.path={tiny}", "serve.port=0")
    code, line = doctor(in_process, *words, "serve.root_path=/v1/")
    reason = "serve.root_path=/v1/ is what the route /v1/embeddings begins with"
    assert code == 1 and line.startswith(f"fail the run would be refused: {reason}; choose another path"), line
    mine = implement("register_endpoints(register)", "register('pooling', '/decode', EMBEDDINGS)")
    install(site, "more", f"from sendnn_pipeline.pooling.api.embeddings import EMBEDDINGS\n{mine}")
    code, line = doctor(in_process, *words)
    reason = "path /decode, which a plugin registers, is the server's own"
    assert code == 1 and line.startswith(f"fail the run would be refused: {reason}"), line


def test_the_paths_are_those_of_the_server():
    own = [*models.routes, *tokens.routes, *info.routes, *health.routes, *docs.routes, *page.routes]
    assert {route.path for route in own if "POST" in route.methods} == set(own_paths.ASKED)
    beside = {"/", "/openapi.json", "/v1/models/{name:path}"}
    assert {route.path for route in own if "GET" in route.methods} - beside == set(own_paths.READ)


@pytest.mark.parametrize("root_path", ["", "/", "/embedder", "embedder/", "/v", "/a/v1", "/v1/embeddings/x"])
def test_other_root_paths_are_taken(root_path):
    check_paths(["/v1/embeddings"], root_path)


@pytest.mark.parametrize("root_path", ["/v1", "v1/", "/v1/embeddings", "/live"])
def test_a_root_path_that_routes_begin_with_is_refused(root_path):
    with pytest.raises(ServeError, match=f"^serve.root_path={root_path} is what the route /"):
        check_paths(["/v1/embeddings"], root_path)
    with pytest.raises(PluginError, match=r"^path /ping, which a plugin registers, is the server's own"):
        check_paths(["/ping"], "")
