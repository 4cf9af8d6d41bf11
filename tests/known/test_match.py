"""Which configuration a model has, and which of its runtimes a run: the rules, on made-up entries."""

import pytest

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.known.entry import KnownConfiguration, Runtime
from sendnn_pipeline.known.match import best_match, choose_runtime, describe_nearest

LEN, SEQS, BLOCKS, SHAPES = "model.max_model_len", "scheduler.max_num_seqs", "cache.num_blocks", "warmup.shapes"


def make(name="made", match=None, runtimes=()):
    runtimes = tuple(runtimes) or (Runtime(),)
    pattern = {"model_type": "bert"} | (match or {})
    return KnownConfiguration(name=name, match=pattern, backends=("eager",), runtimes=runtimes, where=f"{name}.yaml")


FEW, MANY = make("few", {"a": 1}), make("many", {"a": 1, "b": 2, "c": {"d": 3}})
NESTED = make("nested", {"text_config": {"a": 1, "b": 2}})


@pytest.mark.parametrize(
    ("configs", "model", "expected"),
    [
        ([FEW, MANY], {"a": 1, "b": 2, "c": {"d": 3, "e": 4}}, "many"),
        ([MANY, FEW], {"a": 1, "b": 2, "c": {"d": 3}}, "many"),
        ([FEW, MANY], {"a": 1, "b": 2}, "few"),
        ([FEW, MANY], {"a": 2, "b": 2, "c": {"d": 3}}, None),
        ([NESTED], {"text_config": {"a": 1, "b": 2, "c": 3}}, "nested"),
        ([NESTED], {"text_config": {"a": 1}}, None),
        ([NESTED], {"text_config": "text"}, None),
        ([NESTED], {}, None),
        ([FEW], {"a": None}, None),
        ([make("quantized", {"q": {"format": "f8"}}), make("base")], {"q": {"format": "f8", "bits": 8}}, "quantized"),
        ([make("quantized", {"q": {"format": "f8"}}), make("base")], {"q": {"format": "i8"}}, "base"),
        ([make("quantized", {"q": {"format": "f8"}}), make("base")], {}, "base"),
        ([make("list", {"a": [1, 2]})], {"a": 2}, "list"),
        ([make("list", {"a": [1, 2]})], {}, None),
        ([make("list", {"architectures": "A"})], {"architectures": ["A"]}, "list"),
    ],
)
def test_the_most_specific_pattern_that_fits_wins(configs, model, expected):
    match = best_match(configs, {"model_type": "bert"} | model)
    assert (match.name if match else None) == expected
    assert best_match(configs, {"model_type": "other"} | model) is None
    assert best_match(configs, model) is None


def test_equally_specific_patterns_are_an_error():
    one, two = make("one"), make("two")
    with pytest.raises(ConfigError, match=r"one \(one\.yaml\) and two \(two\.yaml\) fit this model equally well"):
        best_match([one, two], {"model_type": "bert"})
    assert best_match([one, two, FEW], {"model_type": "bert", "a": 1}).name == "few"


def test_the_nearest_are_named_with_what_differs():
    near = describe_nearest([MANY, FEW, NESTED], {"model_type": "bert", "b": 3, "text_config": {"a": 1}})
    assert near == [
        "few (a is missing instead of 1)",
        "nested (text_config.b is missing instead of 2)",
        "many (a is missing instead of 1, b is 3 instead of 2, c.d is missing instead of 3)",
    ]


def continuous(tp_size, length, seqs, **more):
    return Runtime(tp_size=tp_size, values={LEN: length, SEQS: seqs, **more})


def static(*shapes, tp_size=1):
    return Runtime(tp_size=tp_size, values={SHAPES: list(shapes)})


ONE = make(runtimes=[continuous(4, 8192, 32)])
THREE_SHAPES = make(runtimes=[static("64x4", "128x2", "256x1")])
CONTINUOUS_FIRST = make(runtimes=[continuous(1, 8192, 32), static("64x4", "128x2")])
TWO_RUNTIMES = make(runtimes=[continuous(1, 3072, 16), continuous(1, 8192, 4)])
STEPS_ONLY = make(runtimes=[Runtime(values={"scheduler.max_num_batched_tokens": 256})])


@pytest.mark.parametrize(
    ("config", "tp_size", "user", "index"),
    [
        (ONE, 4, {LEN: 8192, SEQS: 32}, 0),
        (ONE, 4, {}, 0),
        (ONE, 1, {LEN: 8192, SEQS: 32}, None),
        (ONE, 8, {}, None),
        (ONE, 4, {LEN: 4096, SEQS: 32}, None),
        (ONE, 4, {LEN: 8192, SEQS: 31}, None),
        (THREE_SHAPES, 1, {SHAPES: ["64x4", "128x2"]}, 0),
        (THREE_SHAPES, 1, {SHAPES: ["128x2", "64x4"]}, 0),
        (THREE_SHAPES, 1, {SHAPES: ["256x1"]}, 0),
        (THREE_SHAPES, 1, {SHAPES: ["512x1"]}, None),
        (THREE_SHAPES, 1, {SHAPES: ["64x4", "512x1"]}, None),
        (THREE_SHAPES, 1, {SHAPES: []}, None),
        (CONTINUOUS_FIRST, 1, {SHAPES: ["64x4"]}, 1),
        (CONTINUOUS_FIRST, 1, {SHAPES: ["512x1"]}, None),
        (CONTINUOUS_FIRST, 1, {SHAPES: ["64x4"], LEN: 512}, 1),
        (CONTINUOUS_FIRST, 1, {LEN: 8192}, 0),
        (CONTINUOUS_FIRST, 1, {LEN: 4096}, None),
        (TWO_RUNTIMES, 1, {}, 0),
        (TWO_RUNTIMES, 1, {LEN: 8192}, 1),
        (TWO_RUNTIMES, 1, {LEN: 3072, SEQS: 4}, None),
        (STEPS_ONLY, 1, {SHAPES: ["64x4"], LEN: 512}, 0),
    ],
)
def test_the_user_s_values_choose_among_runtimes(config, tp_size, user, index):
    runtime, differences = choose_runtime(config, user, tp_size)
    assert runtime == (None if index is None else config.runtimes[index])
    assert bool(differences) == (index is None)


@pytest.mark.parametrize(
    ("known", "user", "differs"),
    [
        ({}, {}, False),
        ({}, {BLOCKS: 500}, False),
        ({BLOCKS: 1000}, {}, False),
        ({BLOCKS: 1000}, {BLOCKS: 1000}, False),
        ({BLOCKS: 1000}, {BLOCKS: 500}, True),
        ({BLOCKS: 100}, {BLOCKS: None}, True),
    ],
)
def test_other_values_of_the_user_stay_and_are_reported(known, user, differs):
    config = make(runtimes=[continuous(4, 8192, 32, **known)])
    runtime, differences = choose_runtime(config, user, 4)
    assert runtime == config.runtimes[0]
    assert [(one.key, one.user, one.known) for one in differences] == (
        [(BLOCKS, user[BLOCKS], known[BLOCKS])] if differs else []
    )
