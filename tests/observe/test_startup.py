"""The clock of the start: it runs until the engine is warm, and no longer."""

from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.observe.startup import Startup


def test_it_stops_when_the_engine_serves():
    now = [10.0]
    startup = Startup(clock=lambda: now[0])
    now[0] = 12.0
    startup.on_stage(StageEvent("warmup", "started"))
    assert startup.progress()["elapsed_seconds"] == 2.0 and startup.progress()["stage"] == "warmup"
    now[0] = 14.0
    startup.on_stage(StageEvent("warmup", "finished", seconds=2.0))
    startup.on_stage(StageEvent("serve", "started"))
    now[0] = 99.0
    assert startup.progress()["elapsed_seconds"] == 4.0


def test_info_does_not_count_on(served_echo):
    first, second = (served_echo.get("/info").json()["startup"]["elapsed_seconds"] for _ in range(2))
    assert first == second > 0
