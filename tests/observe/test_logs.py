"""What a record looks like, as text and as JSON, and that nothing of the log stays behind."""

import json
import logging
import re
import warnings

import pytest

from sendnn_pipeline.config.serving import LogConfig, LogFormat, LogLevel
from sendnn_pipeline.observe import logs
from sendnn_pipeline.observe.logs import LogStream, logging_to_stderr

log = logging.getLogger("sendnn_pipeline.test")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def logged(capsys, monkeypatch):
    """Log in a block and return the lines."""

    def run(block, rank=None, **config):
        with monkeypatch.context() as alone:
            # Neither what other tests left, nor pytest's own, which cannot send every text from worker to worker.
            alone.setattr(logging.getLogger(), "handlers", [])
            with logging_to_stderr(LogConfig(**config), rank):
                block()
        return capsys.readouterr().err.splitlines()

    return run


def test_a_line_has_time_level_process_logger_and_fields(logged):
    def block():
        token = logs.request_id.set("me")
        log.info("%s %s", "POST", "/x", extra={"fields": {"status": 400, "error": 'no "a"'}})
        logs.request_id.reset(token)
        log.debug("not shown")

    (line,) = logged(block)
    assert re.fullmatch(rf"{TIME} INFO    edge sendnn_pipeline\.test: POST /x request_id=me status=400 error=.*", line)
    assert line.endswith(r'error="no \"a\""')
    (line,) = logged(lambda: log.error("broken"), rank=3)
    assert re.fullmatch(rf"{TIME} ERROR   rank 3 sendnn_pipeline\.test: broken", line)


def test_an_object_has_the_same(logged):
    def block():
        try:
            raise ValueError("why\nnot")
        except ValueError:
            log.exception("failed \ud800", extra={"fields": {"texts": 3}})

    (line,) = logged(block, rank=1, format=LogFormat.json)
    found = json.loads(line)
    assert re.fullmatch(TIME, found.pop("time")) and "ValueError: why\nnot" in found.pop("exception")
    assert found == {
        "level": "error",
        "rank": 1,
        "logger": "sendnn_pipeline.test",
        "message": "failed \ud800",
        "texts": 3,
    }


def test_nobody_writes_a_second_line_or_moves_the_cursor(logged):
    (line,) = logged(lambda: log.info("a\nb\x1b[2J\u2028c", extra={"fields": {"error": "x\ny" + "z" * 9000}}))
    assert r"a\nb\x1b[2J\u2028c" in line and r"x\ny" in line and len(line) < 2200


@pytest.mark.parametrize(("level", "ours", "others"), [("debug", 4, 2), ("info", 3, 2), ("error", 1, 1)])
def test_levels(logged, level, ours, others):
    def block(name):
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(number, "a")

    assert len(logged(lambda: block("sendnn_pipeline.a.b"), level=LogLevel(level))) == ours
    # Other libraries tell at length what only their authors read.
    assert len(logged(lambda: block("httpx"), level=LogLevel(level))) == others


def test_warnings_of_python_are_records(logged):
    def block():
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("old", stacklevel=1)

    (line,) = logged(block, format=LogFormat.json)
    assert json.loads(line)["level"] == "warning" and "UserWarning: old" in json.loads(line)["message"]


def test_nothing_stays(logged):
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("sendnn_pipeline").level, warnings.showwarning)
    logged(lambda: None, level=LogLevel.debug)
    assert before == (root.handlers, root.level, logging.getLogger("sendnn_pipeline").level, warnings.showwarning)


def test_what_is_printed_becomes_records(logged):
    def block():
        print("model", "x", file=LogStream(log))
        stream = LogStream(log)
        stream.write("one\n\n  two")
        stream.write(" halves\nwarning: three\n")

    lines = [json.loads(line) for line in logged(block, format=LogFormat.json)]
    assert [line["message"] for line in lines] == ["model x", "one", "  two halves", "warning: three"]
    assert [line["level"] for line in lines] == ["info"] * 3 + ["warning"]
