"""The OpenAPI document against the servers that it describes: what schemathesis makes of it is answered as it says."""

import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from sendnn_pipeline.app.endpoints import collect_endpoints
from tests.contract.tables import own_context
from tests.served import ECHO, Served, with_echo

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
FEW = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def ask_all(served, but=frozenset()):
    """Ask every operation a few things that the document allows, and a few that it does not; return the paths."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    paths = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in but:
            continue
        paths.add(operation.path)
        for mode in GenerationMode if operation.body else [GenerationMode.POSITIVE]:
            FEW(given(operation.as_strategy(mode))(ask))()
    return paths


def ask(case):
    case.call_and_validate(checks=CHECKS, timeout=60)


EVERY = {"/live", "/ready", "/startup", "/health", "/ping", "/info", "/version", "/metrics", "/docs", "/"}
EVERY |= {"/v1/models", "/v1/models/{name}", "/tokenize", "/detokenize", "/decode"}


def test_the_echo_engine(served_echo):
    assert ask_all(served_echo) == EVERY | {"/v1/echo"}
    assert served_echo.post("/v1/echo", json={"input": "a"}).status_code == 200


@pytest.mark.parametrize("served", ["served_tiny", "served_cross_encoder", "served_classifier"])
def test_the_pooling_engine(request, served):
    paths = set(collect_endpoints(own_context().plugins, "pooling"))
    assert ask_all(request.getfixturevalue(served), EVERY) == paths


def test_the_generation_engine(served_llama):
    paths = set(collect_endpoints(own_context().plugins, "generation"))
    assert ask_all(served_llama, EVERY) == paths


def test_answers_and_errors_are_described(served_tiny):
    document = served_tiny.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1") and "securitySchemes" not in document["components"]
    operation = document["paths"]["/rerank"]["post"]
    (refused,) = operation["responses"]["default"]["content"].values()
    assert [kind["$ref"].rpartition("/")[2] for kind in refused["schema"]["anyOf"]] == ["OpenAIError", "TeiError"]
    fields = document["components"]["schemas"]["EmbeddingRequest"]["properties"]
    assert {"type": "null"} in fields["encoding_format"]["anyOf"] and {"type": "null"} not in fields["input"]["anyOf"]


def test_the_page_needs_no_key_and_nothing_from_elsewhere(tiny, tmp_path):
    (tmp_path / "key").write_text("secret")
    words = (f"serve.api_key_file={tmp_path / 'key'}", "serve.root_path=/echo")
    with Served(*ECHO, f"model.path={tiny}", *words, **with_echo()) as served:
        for path in ("/", "/docs", "/echo/docs"):
            page = served.get(path)
            assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
            assert not re.search(r"(src|href|url|fetch|import)[\s=(]*[\"'`]?(https?:)?//", page.text)
        assert served.get("/openapi.json").status_code == 401
        document = served.get("/openapi.json", headers={"Authorization": "Bearer secret"}).json()
        assert document["servers"] == [{"url": "/echo"}] and document["components"]["securitySchemes"]
        assert document["paths"]["/v1/echo"]["post"]["security"] and "security" not in document["paths"]["/live"]["get"]
