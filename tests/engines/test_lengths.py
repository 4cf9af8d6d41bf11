"""Lengths of a workload: of traces of every form, and as shares."""

import pytest

from sendnn_pipeline.engines.lengths import MIXED_TEXTS, describe_left_out, histogram_of, read_trace
from sendnn_pipeline.errors import ConfigError


def test_traces(tmp_path):
    file = tmp_path / "trace"
    file.write_text('12\n{"num_tokens": 12}\n\n{"num_prompt_tokens": 60, "num_texts": 3, "model": "m"}\n')
    assert read_trace(file).shares == ((12, 0.4), (20, pytest.approx(0.6)))


def test_lines_of_failed_requests_are_counted_and_left_out(tmp_path):
    file = tmp_path / "request_metrics.jsonl"
    lines = ['{"num_prompt_tokens": 7}', '{"finish_reason": "error"}', '{"num_prompt_tokens": null}', "9"]
    file.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    found = read_trace(file)
    assert found.shares == ((7, 0.5), (9, 0.5)) and found.num_left_out == found.clipped(8).num_left_out == 2
    assert describe_left_out(found, "FILE") == "2 lines of FILE have no tokens and are left out"
    file.write_text("\n".join(lines[1:3]))
    with pytest.raises(ConfigError, match="none of its 2 lines has a number of tokens"):
        read_trace(file)
    file.write_text("7\n", encoding="utf-16")
    with pytest.raises(ConfigError, match="cannot be read: it is UTF-16 or UTF-32: save it as UTF-8"):
        read_trace(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [("12\nx\n", "line 2 has no number of tokens"), ("0\n", "line 1"), ("true\n", "line 1"), ("", "holds no lengths")],
)
def test_traces_that_are_none(tmp_path, content, says):
    file = tmp_path / "trace"
    file.write_text(content)
    with pytest.raises(ConfigError, match=says):
        read_trace(file, "the test")
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory \(set by the test\)"):
        read_trace(tmp_path / "absent", "the test")
    file.write_bytes(b"\xff\n")
    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8 text"):
        read_trace(file)


def test_shares_add_up_and_long_texts_count_as_cut():
    mixed = histogram_of(MIXED_TEXTS)
    assert sum(share for _, share in mixed.shares) == pytest.approx(1)
    assert mixed.mean == pytest.approx(sum(length * count for length, count in MIXED_TEXTS.items()) / 100)
    cut = mixed.clipped(64)
    assert [length for length, _ in cut.shares] == [8, 16, 24, 32, 48, 64]
    assert cut.shares[-1][1] == pytest.approx((13 + 14 + 7 + 6 + 2 + 1) / 100)


@pytest.mark.parametrize("counts", [{}, {0: 1}, {5: -1, 6: 2}, {5: 0}])
def test_a_histogram_needs_lengths_and_counts(counts):
    with pytest.raises(ConfigError, match=r"needs lengths of 1 or more with their counts \(set by the test\)"):
        histogram_of(counts, where="the test")
