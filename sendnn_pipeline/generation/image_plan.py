"""How a run of generation takes images: what is decided before anything is loaded. No torch."""

from dataclasses import dataclass

from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import PlanLine
from sendnn_pipeline.engines.sharding import RANKS
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.multimodal.adapters import ImageAdapter, ImageLayout, Parts, adapter_registry
from sendnn_pipeline.multimodal.devices import (
    DEVICE_KEY,
    DTYPE_KEY,
    device_registry,
    resolve_device,
    resolve_dtype,
)


@dataclass(frozen=True)
class PlannedImages:
    """Of a model that reads images."""

    layout: ImageLayout
    parts: Parts


def find_adapter(plugins: Plugins, model: ModelFacts) -> ImageAdapter | None:
    """Return the adapter of a model's architecture; None where no plugin has one, so that it reads text alone."""
    registry = adapter_registry(plugins)
    return registry.create(model.model_type) if model.model_type in registry.entries else None


def resolve_images(plugins: Plugins, draft: Draft) -> None:
    """Decide where images are encoded, and in which dtype.

    Raises:
        ConfigError: there is no such device here.
    """
    where = draft.where(DEVICE_KEY)
    device, reason = resolve_device(draft[DEVICE_KEY], device_registry(plugins), where, plugins.missing())
    if device != draft[DEVICE_KEY]:
        draft.put(DEVICE_KEY, device, Layer.CHOSEN, reason or "lower case")
    if draft[RANKS] == 1:
        draft.note_unused("multimodal.share_across_ranks", "the engine has one rank")
    elif draft["multimodal.async_encoder"]:
        draft.note_unused("multimodal.share_across_ranks", "with multimodal.async_encoder one process encodes")
    dtype, reason = resolve_dtype(draft[DTYPE_KEY])
    if reason:
        draft.put(DTYPE_KEY, dtype, Layer.CHOSEN, reason)


def plan_images(adapter: ImageAdapter, model: ModelFacts) -> PlannedImages:
    """Read how images stand in the model's prompts.

    Raises:
        ModelError: a file of the model lacks something.
    """
    return PlannedImages(adapter.layout(model), adapter.parts)


def images_line(config: RunConfig) -> PlanLine:
    """Return the line of the plan."""
    multimodal = config.multimodal
    apart = ", in a process of its own" if multimodal.async_encoder else ""
    return PlanLine("images", f"encoded on {multimodal.device} in {multimodal.dtype}{apart}", DEVICE_KEY)
