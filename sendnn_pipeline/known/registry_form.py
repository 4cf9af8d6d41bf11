"""The YAML form of the registry that ``conf/known`` replaces, as users have it; converted into entries of ours."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sendnn_pipeline.errors import ConfigError

BACKENDS = ("sendnn", "sendnn_compile_only")
# vLLM, which that registry was written for, renames these; the model's own config.json has the name on the right.
OWN_MODEL_TYPE = {"pixtral": "mistral3"}
# Blocks may depend on the version of the device library; what is not listed there is the default.
DEFAULT_VERSION = "default"


class _Shape(msgspec.Struct, frozen=True):
    prompt_len: int
    batch_size: int


class _Static(msgspec.Struct, frozen=True):
    tp_size: int
    warmup_shapes: list[_Shape]

    def values(self) -> dict[str, Any]:
        shapes = {f"{shape.prompt_len}x{shape.batch_size}" for shape in self.warmup_shapes}
        return {"tp_size": self.tp_size, "warmup.shapes": sorted(shapes)}


class _Device(msgspec.Struct, frozen=True):
    env_vars: dict[str, Any] | None = None
    num_gpu_blocks_override: int | dict[str, int] | None = None

    def values(self) -> dict[str, Any]:
        blocks = self.num_gpu_blocks_override
        if isinstance(blocks, dict):
            blocks = blocks.get(DEFAULT_VERSION)
        values: dict[str, Any] = {} if blocks is None else {"cache.num_blocks": blocks}
        if self.env_vars:
            values["backend.environment"] = {name: str(value) for name, value in self.env_vars.items()}
        return values


class _Continuous(msgspec.Struct, frozen=True):
    tp_size: int
    max_model_len: int
    max_num_seqs: int
    device_config: _Device | None = None

    def values(self) -> dict[str, Any]:
        sizes = {
            "tp_size": self.tp_size,
            "model.max_model_len": self.max_model_len,
            "scheduler.max_num_seqs": self.max_num_seqs,
        }
        return sizes | (self.device_config.values() if self.device_config else {})


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    architecture: dict[str, Any]
    platforms: list[str] | None = None
    static_batching_configs: list[_Static] | None = None
    continuous_batching_configs: list[_Continuous] | None = None

    def __post_init__(self) -> None:
        if "model_type" not in self.architecture:
            raise ValueError("architecture lacks model_type")
        if not self.static_batching_configs and not self.continuous_batching_configs:
            raise ValueError("needs static_batching_configs or continuous_batching_configs")


def convert_models(models: Any, where: str) -> list[dict[str, Any]]:
    """Return each model of the registry's form as the document of an entry; fields that it does not use are ignored.

    Raises:
        ConfigError: a model is not of that form; the message names it and the field.
    """
    if not isinstance(models, Mapping):
        raise ConfigError(f"{where}: models must be a mapping of names", hint="write a name and its fields")
    return [_convert_model(str(name), content, where) for name, content in models.items()]


def _convert_model(name: str, content: Any, where: str) -> dict[str, Any]:
    try:
        # Numbers in quotes count as numbers, as they do there.
        model = msgspec.convert(content, _Model, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {name}: {error}") from None
    model_type = model.architecture["model_type"]
    runtimes = [*(model.static_batching_configs or ()), *(model.continuous_batching_configs or ())]
    return {
        "name": name,
        "match": model.architecture | {"model_type": OWN_MODEL_TYPE.get(model_type, model_type)},
        "platforms": model.platforms or [],
        "backends": list(BACKENDS),
        "runtimes": [runtime.values() for runtime in runtimes],
    }
