"""Plugins' metrics beside ours."""

import time
from concurrent.futures import ThreadPoolExecutor

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


COLLECTORS = """
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
Counter({name!r}, 'Of a plugin.', registry=registry).inc(7)
class Own:
    def collect(self):
        {body}
registry.register(Own())
"""


def test_a_collector_that_fails_costs_its_plugin_s_metrics_and_no_others(site, tiny, with_echo):
    bodies = {
        "raises": "raise RuntimeError('no device')",
        "text": "yield GaugeMetricFamily('text', 'no number', value='many')",
        "nothing": "return None",
        "hangs": "import time; time.sleep(30)",
        "good": "yield GaugeMetricFamily('good', 'a number', value=5)",
    }
    for plugin, body in bodies.items():
        code = COLLECTORS.format(name=f"{plugin}:pokes", body=body)
        install(site, plugin, implement("register_metrics(registry)", code))
    with Served(*ECHO, f"model.path={tiny}", **with_echo) as served:
        for _ in range(2):
            with ThreadPoolExecutor() as pool:
                scrape = pool.submit(served.get, "/metrics")
                began = time.monotonic()
                assert served.get("/live").status_code == 200 and time.monotonic() - began < 2
                answer = scrape.result()
            assert answer.status_code == 200 and "good:pokes_total 7.0" in answer.text and "good 5.0" in answer.text
            assert "vllm:num_requests_running" in answer.text and "raises:pokes" not in answer.text
        assert "sendnn_pipeline:plugin_load_failures_total 4.0" in served.get("/metrics").text
    said = [line for line in served.lines if "collecting its metrics failed" in line]
    assert any("plugin hangs" in line and "it took more than 3 s" in line for line in said)
    assert len(said) == 4 and any("plugin raises" in line and "no device" in line for line in said)
