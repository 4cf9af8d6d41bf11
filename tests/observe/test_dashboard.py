"""The Grafana board: of the shape that Grafana's own types have, and asking for nothing that is not exported."""

import json
import re
from itertools import combinations

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sendnn_pipeline.config.options import own_conf_dir
from sendnn_pipeline.messages import StageEvent, StepDone
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.observe.plugin import register_metrics

BOARD = json.loads((own_conf_dir() / "dashboards" / "grafana.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
# Put on by Prometheus when it asks.
OF_PROMETHEUS = {"instance", "job"}


def exported(text):
    """Return the labels of every series in an answer of /metrics, by the name that queries use."""
    labels = {}
    for family in text_string_to_metric_families(text):
        for suffix in SUFFIXES.get(family.type, ()):
            found = [set(sample.labels) for sample in family.samples if sample.name == family.name + suffix]
            labels[family.name + suffix] = set().union(*found)
    return labels


def queries():
    """Return every query of the board, variables put in as Grafana does."""
    asked = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    values = re.compile(r"label_values\((\S+), (\w+)\)")
    found = [(one["name"], values.fullmatch(one["query"]["query"])) for one in BOARD["templating"]["list"][1:]]
    return [*asked, *((name, f"count by ({match[2]}) ({match[1]})") for name, match in found)]


def parsed(query):
    """Return the names that a query selects, each with the labels that it matches, and the labels it groups by."""
    selected, grouped = [], set()

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            selected.append((node.name, {matcher.name for matcher in node.matchers.matchers}))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            grouped.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "5m")), visit)
    assert selected
    return selected, grouped


def test_it_is_of_grafana_s_own_shape():
    register_default_plugins()
    assert list(lost(BOARD, json.loads(JSONEncoder().encode(Dashboard.from_json(BOARD))), "board")) == []


def lost(wanted, found, path):
    """Yield what is not in ``found``, which has defaults beside it."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            yield from lost(value, found[name], f"{path}.{name}") if name in found else [f"{path}.{name}"]
    elif isinstance(wanted, list):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif wanted != found:
        yield f"{path}: {found}"


def test_panels_have_ids_of_their_own_and_places_of_their_own():
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = [one[a] + one[b] <= other[a] or other[a] + other[b] <= one[a] for a, b in (("x", "w"), ("y", "h"))]
        assert any(apart), (one, other)


@pytest.fixture(scope="module")
def series():
    """What a run exports to which everything has happened once."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, "m", 64)
    register_metrics(registry)
    metrics.answered("/x", 200)
    metrics.rejected("queue_full")
    metrics.cancelled("deadline")
    metrics.finished("stop")
    metrics.stepped(StepDone("p", 1, 2, 3, 4, 0.0, 1.0, 0, 0), 1.0)
    metrics.on_stage(StageEvent("compile", "finished", "p", source="compiled"))
    metrics.on_stage(StageEvent("compile", "finished"))
    metrics.backend_info.labels("eager", "1", "cpu", "none").set(1)
    return exported(generate_latest(registry).decode())


@pytest.mark.parametrize(("title", "query"), queries())
def test_a_query_asks_for_labels_that_there_are(series, title, query):
    selected, grouped = parsed(query)
    for name, matched in selected:
        # Of another process than the test's.
        labels = series.get(name, set()) if not name.startswith("sendnn_pipeline:engine_process") else set()
        assert matched <= labels | OF_PROMETHEUS, name
        assert grouped <= labels | OF_PROMETHEUS, name


def test_every_metric_is_exported_by_a_server(served_echo):
    served_echo.post("/v1/echo", json={"input": "a"})
    names = {name for _, query in queries() for name, _ in parsed(query)[0]}
    assert names - exported(served_echo.get("/metrics").text).keys() == set()
    assert {name for name in names if name.startswith("vllm:")} and len(names) > 20


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legends_name_labels_that_are_left(panel):
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        _, grouped = parsed(target["expr"])
        assert not named or "sum" not in target["expr"] or named <= grouped, target
