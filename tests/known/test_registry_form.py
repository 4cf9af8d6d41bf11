"""The form of the registry that ``conf/known`` replaces."""

import pytest

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.known.entry import read_known_file

REGISTRY_FORM = """
_templates: {anything: [1, 2]}
models:
  org/one:
    architecture: {model_type: bert, num_hidden_layers: 2}
    platforms: [x86_64]
    static_batching_configs:
      - {tp_size: 1, warmup_shapes: [{prompt_len: 64, batch_size: 8, new_tokens: 0}, {prompt_len: 32, batch_size: "1"}]}
  org/two:
    architecture: {model_type: pixtral, text_config: {num_hidden_layers: 4}}
    continuous_batching_configs:
      - tp_size: 4
        max_model_len: 1024
        max_num_seqs: 2
        device_config: {env_vars: {A_SIZE: 7}, num_gpu_blocks_override: {torch_sendnn_lt_1_0_3: 2080, default: 8192}}
      - {tp_size: 1, max_model_len: 1024, max_num_seqs: 2, device_config: {num_gpu_blocks_override: {other: 1}}}
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return read_known_file(str(file), "test")

    return read_text


def test_it_is_read(read):
    one, two = read(REGISTRY_FORM)
    assert one.name == "org/one" and one.platforms == ("x86_64",) and "sendnn" in one.backends
    assert one.runtimes[0].values == {"warmup.shapes": ["32x1", "64x8"]}
    assert two.match["model_type"] == "mistral3" and two.runtimes[0].tp_size == 4
    assert two.runtimes[0].values == {
        "model.max_model_len": 1024,
        "scheduler.max_num_seqs": 2,
        "cache.num_blocks": 8192,
        "backend.environment": {"A_SIZE": "7"},
    }
    assert two.runtimes[1].values == {"model.max_model_len": 1024, "scheduler.max_num_seqs": 2}
    assert read("models:\n") == ()


STATIC = "{a: {architecture: {model_type: b}, static_batching_configs: [%s]}}"
SHAPES = "{prompt_len: 64, batch_size: 4%s}, {prompt_len: 128, batch_size: 2}"
REORDERED = "{prompt_len: 128, batch_size: 2}, {prompt_len: 64, batch_size: 4}"
CONTINUOUS = "{tp_size: 1, max_model_len: 2, max_num_seqs: 3%s}"


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("{a: {architecture: {num_layers: 1}}}", "a: architecture lacks model_type"),
        ("{a: {}}", "a: Object missing required field `architecture`"),
        ("{a: 1}", "a: Expected `object`, got `int`"),
        ("{a: {architecture: {model_type: b, x: null}, static_batching_configs: [{tp_size: 1, warmup_shapes: "
         "[{prompt_len: 1, batch_size: 1}]}]}}", "a: match.x is null"),
        ("{a: {architecture: {model_type: b}}}", "a: needs static_batching_configs or continuous_batching_configs"),
        (STATIC % "{tp_size: 1, warmup_shapes: [{prompt_len: 1}]}",
         "missing required field `batch_size` - at `$.static_batching_configs[0].warmup_shapes[0]`"),
        (STATIC % "{tp_size: x, warmup_shapes: []}", "a: Expected `int`, got `str` - at `$.static_batching_configs[0]"),
        (STATIC % f"{{tp_size: 1, warmup_shapes: [{SHAPES % ''}]}}, {{tp_size: 1, warmup_shapes: [{REORDERED}]}}",
         "a: runtimes[1] repeats"),
        (STATIC % f"{{tp_size: 1, warmup_shapes: [{SHAPES % ', new_tokens: 1'}]}}, "
         f"{{tp_size: 1, warmup_shapes: [{SHAPES % ''}]}}", "a: runtimes[1] repeats"),
        ("{a: {architecture: {model_type: b}, continuous_batching_configs: [{tp_size: 1, max_model_len: 2}]}}",
         "a: Object missing required field `max_num_seqs` - at `$.continuous_batching_configs[0]`"),
        ("{a: {architecture: {model_type: b}, continuous_batching_configs: "
         f"[{CONTINUOUS % ''}, {CONTINUOUS % ', device_config: {num_gpu_blocks_override: 4}'}]}}}}",
         "a: runtimes[1] repeats"),
        ("[1]", "models must be a mapping"),
    ],
)  # fmt: skip
def test_wrong_models_are_named_with_the_field(read, models, says):
    with pytest.raises(ConfigError) as caught:
        read(f"models: {models}\n")
    assert says in str(caught.value)
