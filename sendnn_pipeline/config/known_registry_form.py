"""The YAML form of the registry that ``conf/known`` replaces, as users have it: read, and made into ours."""

from collections.abc import Iterator, Mapping
from typing import Any

from sendnn_pipeline.errors import ConfigError

BACKENDS = ("sendnn", "sendnn_compile_only")
# vLLM, which that registry was written for, names these models anew; their own config.json has the name behind.
OWN_MODEL_TYPE = {"pixtral": "mistral3"}


def converted(models: Any, where: str) -> list[dict[str, Any]]:
    """Return each model of the registry's form as one of ours.

    Raises:
        ConfigError: an entry is not of that form; the message names it.
    """
    if not isinstance(models, Mapping):
        raise ConfigError(f"{where}: models is no mapping of names", hint="write a name and its entries")
    return [_converted(str(name), content, where) for name, content in models.items()]


def _converted(name: str, content: Any, where: str) -> dict[str, Any]:
    def wrong(what: str, hint: str = "") -> ConfigError:
        return ConfigError(f"{where}: {name} {what}", hint=hint)

    match = dict((content or {}).get("architecture") or {})
    if "model_type" not in match:
        raise wrong("has no architecture.model_type")
    for key, value in match.items():
        nested = value.items() if isinstance(value, Mapping) else [("", value)]
        if any(held is None for _, held in nested):
            raise wrong(f"has an attribute that is null: {key}", "give it a value, or leave it out")
    match["model_type"] = OWN_MODEL_TYPE.get(match["model_type"], match["model_type"])
    static, continuous = content.get("static_batching_configs"), content.get("continuous_batching_configs")
    if not static and not continuous:
        raise wrong("has no runtime configuration", "add static_batching_configs or continuous_batching_configs")
    try:
        runtimes = [*map(_static, static or ()), *map(_continuous, continuous or ())]
    except KeyError as error:
        raise wrong(f"lacks {error} in a runtime configuration") from None
    except (TypeError, ValueError) as error:
        raise wrong(f"has a number that is none: {error}") from None
    return {
        "name": name,
        "match": match,
        "platforms": content.get("platforms") or [],
        "backends": list(BACKENDS),
        "runtimes": runtimes,
    }


def _static(config: Mapping[str, Any]) -> dict[str, Any]:
    shapes = sorted({f"{int(shape['prompt_len'])}x{int(shape['batch_size'])}" for shape in config["warmup_shapes"]})
    return {"tp_size": int(config["tp_size"]), "warmup.shapes": shapes}


def _continuous(config: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {
        "tp_size": int(config["tp_size"]),
        "model.max_model_len": int(config["max_model_len"]),
        "scheduler.max_num_seqs": int(config["max_num_seqs"]),
    }
    return sizes | dict(_device(config.get("device_config") or {}))


def _device(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    blocks = config.get("num_gpu_blocks_override")
    if isinstance(blocks, Mapping):
        # An older form: by version of the device library. What is not said for a version is the default.
        blocks = blocks["default"]
    if blocks is not None:
        yield "cache.num_blocks", int(blocks)
    if config.get("env_vars"):
        yield "backend.environment", {str(name): str(value) for name, value in config["env_vars"].items()}
