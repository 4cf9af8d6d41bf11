"""A key that is named and has no effect in a run is never silent, and one that has is never called unused."""

import pytest

from tests.conftest import clean_environ, resolved_run
from tests.served import EAGER_FLOAT32, ECHO, ECHO_FOLDER

LATER_TWO = ", which are not part of this version"


@pytest.mark.parametrize(
    ("words", "key", "owner"),
    [
        (["scheduler.pausing=false"], "scheduler.pausing", "the generation engine"),
        (["cache.num_blocks=3"], "cache.num_blocks", "the generation engine"),
        (["multimodal.device=cpu"], "multimodal.device", "vision-language models"),
        (["workload.seed=3"], "workload.seed", "serve=bench"),
        (["sweep.job_timeout_seconds=3"], "sweep.job_timeout_seconds", "a sweep"),
    ],
)
def test_a_key_without_effect_is_noted_with_whose_it_is(tiny, words, key, owner):
    notices = resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", *words]).draft.notices
    assert f"{key} (set by {words[0]}) is not used by this run: it belongs to {owner}" in notices


def test_a_variable_without_effect_is_noted_too(tiny):
    environ = clean_environ(SENDNN_INFERENCE_GLOO_TIMEOUT_MINUTES="9")
    notices = resolved_run([*EAGER_FLOAT32, f"model.path={tiny}"], environ).draft.notices
    where = "parallel.gloo_timeout_minutes (set by SENDNN_INFERENCE_GLOO_TIMEOUT_MINUTES) is not used by this run"
    assert f"{where}: one rank waits for no other" in notices


def test_what_an_option_brings_along_is_not_the_user_s_word(tiny):
    words = ["scheduler=continuous", "cache=paged", "workload=uniform", "warmup.shapes=[16x2]"]
    assert resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", *words]).draft.notices == [
        "inputs longer than 16 tokens are refused, although the model takes 64: no warmup shape is longer"
    ]


def test_what_a_run_uses_is_not_noted(tiny):
    words = ["process.concurrent_steps=1", "warmup.trace=null", "scheduler.max_num_batched_tokens=64"]
    assert resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", "engine.pooling=cls", *words]).draft.notices == []
    bench = ["serve=bench", "workload.seed=3"]
    assert resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", *bench]).draft.notices == []


def test_keys_of_one_engine_are_noted_under_another(tiny, monkeypatch):
    monkeypatch.syspath_prepend(ECHO_FOLDER)
    words = ["process.concurrent_steps=1", "warmup.shapes=[16x2]", "engine.pooling=cls", "warmup.remeasure=true"]
    notices = resolved_run([*ECHO, f"model.path={tiny}", *words]).draft.notices
    keys = {"process.concurrent_steps", "warmup.shapes", "engine.pooling"}
    assert {notice.partition(" ")[0] for notice in notices} == keys
    assert all(notice.endswith("it belongs to another engine") for notice in notices)
