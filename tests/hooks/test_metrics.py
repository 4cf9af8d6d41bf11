"""Plugins' metrics beside ours."""

from tests.hooks.fake import implement, install
from tests.served import ECHO, Served

COUNTER = "from prometheus_client import Counter\nCounter({name!r}, 'Of a plugin.', registry=registry).inc(7)"


def test_a_name_that_is_ours_is_the_plugin_s_failure_and_all_else_goes_on(site, tiny, with_echo):
    for plugin, name in (("bad", "vllm:request_success"), ("good", "good:pokes")):
        install(site, plugin, implement("register_metrics(registry)", COUNTER.format(name=name)))
    with Served(*ECHO, f"model.path={tiny}", **with_echo) as served:
        text = served.get("/metrics").text
    assert "good:pokes_total 7.0" in text and "sendnn_pipeline:plugin_load_failures_total 1.0" in text
    (line,) = [line for line in served.lines if line.startswith("warning: plugin bad is called no more")]
    assert "register_metrics failed" in line and "vllm:request_success" in line
    assert "Of a plugin." in text and "HELP vllm:request_success_total Finished requests." in text
