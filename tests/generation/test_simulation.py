"""Scenario files, predictions and timelines."""

import json

import msgspec
import pytest

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation.simulation import play as playing
from sendnn_pipeline.generation.simulation.costs import FixedCosts, MeasuredCosts
from sendnn_pipeline.generation.simulation.play import play
from sendnn_pipeline.generation.simulation.predict import percentiles, predict
from sendnn_pipeline.generation.simulation.scenario import Scenario, read_scenarios
from sendnn_pipeline.generation.simulation.spans import Doing, spans_of
from sendnn_pipeline.generation.simulation.timeline import Timeline, draw_png, write_html
from sendnn_pipeline.generation.steps import DecodeStep, PrefillStep
from tests.generation.tables import prompt, scenarios

CONFIG = scenarios()[0]["config"]


def scenario(requests, **config):
    """Make one of ``(arrival_step, number of prompt tokens, max_tokens)``."""
    return {
        "name": "made",
        "config": CONFIG | config,
        "requests": [
            {"id": str(index), "arrival_step": arrival, "prompt": prompt(index, num_tokens), "max_tokens": max_tokens}
            for index, (arrival, num_tokens, max_tokens) in enumerate(requests)
        ],
    }


def played(requests, **config):
    return play(msgspec.convert(scenario(requests, **config), Scenario))


def without(value, *keys):
    return {key: entry for key, entry in value.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "nam": 1}, "scenario 2 (made): Object contains unknown field `nam`; allowed: name, config, "),
        (lambda s: without(s, "name"), "scenario 2: Object missing required field `name`; allowed: name, config, "),
        (
            lambda s: {**s, "config": without(s["config"], "pausing")},
            "scenario 2 (made): config: Object missing required field `pausing`; allowed: chunk_size, max_num_seqs, ",
        ),
        (
            lambda s: {**s, "config": s["config"] | {"chunk_size": 100}},
            "config.chunk_size: Expected `int` that's a mult",
        ),
        (lambda s: {**s, "config": s["config"] | {"interleave": 1}}, "config.interleave: Expected `bool`, got `int`"),
        (
            lambda s: {**s, "requests": [{**s["requests"][0], "prompt": []}]},
            "requests[0].prompt: Expected `array` of",
        ),
        (
            lambda s: {**s, "requests": [{**s["requests"][0], "prompt": [2**70]}]},
            "requests[0].prompt[0]: Expected `int` <= 9",
        ),
        (
            lambda s: {**s, "requests": [{**s["requests"][0], "max": 1}]},
            "`max`; allowed: id, arrival_step, prompt, max",
        ),
        (lambda s: {**s, "requests": s["requests"] * 2}, "requests[1].id: '0' is the id of an earlier request; each"),
        (
            lambda s: {**s, "config": s["config"] | {"max_model_len": 10}},
            "requests[0].max_tokens: 60 prompt tokens and 2 new ones are 62, more than max_model_len=10",
        ),
        (
            lambda s: {**s, "config": s["config"] | {"num_blocks": 2}, "requests": scenario([(0, 64, 1)])["requests"]},
            "requests[0].max_tokens: 65 tokens need 2 blocks, and num_blocks=2 leaves 1",
        ),
        (lambda s: {**s, "costs": {"prefill_ms": 1}}, "costs: Object missing required field `decode_ms`; allowed: pre"),
        (lambda s: [], "scenario 2: Expected `object`, got `array`"),
    ],
)
def test_a_wrong_scenario_is_named_with_its_key(tmp_path, change, message):
    good = scenario([(0, 60, 2)])
    file = tmp_path / "file.json"
    file.write_text(json.dumps([good, change(good)]))
    with pytest.raises(ConfigError) as raised:
        read_scenarios(file)
    assert message in str(raised.value) and str(raised.value).startswith(f"{file}: scenario 2")


def test_files_that_are_no_scenarios(tmp_path):
    file = tmp_path / "file.json"
    for text, message in (("{}", "holds no list"), ("[", "is not JSON"), (b"\xff", "is not JSON")):
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(ConfigError, match=message):
            read_scenarios(file)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_scenarios(tmp_path / "none.json")


def test_nothing_runs_before_the_first_arrival():
    one = played([(2, 10, 1)])
    assert [row.tkv for row in one.rows] == [0, 0, 0, 10] and one.steps[:2] == [None, None]
    assert [row.waiting for row in one.rows] == [[], [], ["0"], []]
    assert len(played([]).rows) == 1


def test_a_scenario_has_a_last_step(monkeypatch):
    monkeypatch.setattr(playing, "MAX_STEPS", 5)
    with pytest.raises(ConfigError, match="scenario made takes more than 5 steps"):
        played([(0, 10, 9)])


def test_predicted_times():
    # Two prompts of a chunk each, with a decode between: 40, 20, 40, then decodes of both.
    prediction = predict(played([(0, 60, 3), (1, 100, 2)]), FixedCosts(40, 20))
    first, second = prediction.requests
    assert (first.queued_ms, first.ttft_ms, first.itl_ms, first.max_itl_ms, first.e2e_ms) == (0, 40, 40, 60, 120)
    assert (second.queued_ms, second.ttft_ms, second.itl_ms, second.e2e_ms) == (20, 60, 20, 80)
    assert prediction.total_ms == 120 and prediction.output_tokens == 5
    assert prediction.tokens_per_second == pytest.approx(5 / 0.120)
    assert prediction.ttft_ms["p50"] == 50 and prediction.itl_ms["p50"] == 20


def test_steps_that_take_no_time():
    assert predict(played([(0, 60, 1)]), FixedCosts(0, 0)).tokens_per_second == 0
    assert percentiles([]) == {} and percentiles([3.0]) == {"p50": 3.0, "p90": 3.0, "p99": 3.0}
    assert percentiles([1.0, 2.0, 3.0, 11.0])["p50"] == 2.5


def test_measured_costs_are_those_of_the_cheapest_step_that_is_as_large():
    cost = MeasuredCosts({64: 5.0, 128: 8.0}, {(1, 4): 2.0, (4, 4): 3.0, (4, 16): 6.0})
    one = played([(0, 60, 3), (0, 300, 3)], chunk_size=64, interleave=False)
    by_step = [(step, cost(step)) for step in one.steps]
    assert {ms for step, ms in by_step if isinstance(step, PrefillStep)} == {5.0}
    assert [ms for step, ms in by_step if isinstance(step, DecodeStep)] == [6.0, 6.0]
    assert {cost(step) for step in played([(0, 300, 1)], chunk_size=256).steps} == {16.0}
    assert predict(one, cost).total_ms == sum(ms for _, ms in by_step)


def test_spans_cover_every_step_of_a_request():
    number = [one["name"] for one in scenarios()].index("decode_pausing")
    one = play(msgspec.convert(scenarios()[number], Scenario))
    spans = spans_of(one)
    letters = {Doing.WAITING: "w", Doing.PREFILL: "P", Doing.DECODE: "d", Doing.INTERRUPTED: "-", Doing.PAUSED: "="}
    lines = ["", "", ""]
    for span in sorted(spans, key=lambda span: span.begin):
        assert len(lines[span.index]) == span.begin
        lines[span.index] += letters[span.doing] * (span.end - span.begin)
    assert lines == ["Pd-d-dddd=d=d=dd", "wwPd-ddddd=d=ddddd", "wwwwPddddddddd"]


def test_pictures(tmp_path):
    one, none = played([(0, 60, 3), (1, 300, 2)], max_batch_tkv=500), played([])
    draw_png(tmp_path / "file.png", [Timeline(one), Timeline(none)])
    assert (tmp_path / "file.png").read_bytes().startswith(b"\x89PNG")
    prediction = predict(one, FixedCosts(40, 20))
    write_html(tmp_path / "file.html", [Timeline(one, [float(row.step) for row in one.rows], prediction)])
    page = (tmp_path / "file.html").read_text()
    assert "data:image/svg+xml;base64," in page and "TTFT ms" in page and "http" not in page.partition("base64,")[0]
