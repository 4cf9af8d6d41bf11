"""The vision part of a model, in this process: pictures in, rows for the text model out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.models.loader import load_vision
from sendnn_pipeline.multimodal.adapters import ImageAdapter
from sendnn_pipeline.multimodal.devices import MultimodalDevice
from sendnn_pipeline.multimodal.pictures import open_picture

if TYPE_CHECKING:
    from torch import nn

SIZES = "image_sizes"


@dataclass(frozen=True)
class VisionEncoder:
    """Encodes one picture at a time."""

    adapter: ImageAdapter
    vision: "nn.Module"
    """The model of transformers without its text model."""
    processor: Callable[..., Any]
    device: str
    """Torch's name of it."""
    dtype: torch.dtype
    """Of the vision part."""
    out: torch.dtype
    """Of the text model."""

    def encode(self, data: bytes) -> torch.Tensor:
        """Return the rows ``[tokens, hidden size]`` of a picture, on the CPU in the text model's dtype.

        Args:
            data: the file, which the edge has opened before.

        Raises:
            ValueError: what comes of it is not finite.
        """
        pixels = self.processor(images=[open_picture(data)], return_tensors="pt")
        with torch.no_grad():
            rows: torch.Tensor = self.adapter.encode(self.vision, self._placed(pixels))
        rows = rows.to("cpu", self.out).contiguous()
        if not bool(torch.isfinite(rows).all()):
            raise ValueError("the vision encoder gave numbers that are not finite; multimodal.dtype=float32 is wider")
        return rows

    def _placed(self, pixels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        def place(name: str, value: torch.Tensor) -> torch.Tensor:
            if value.is_floating_point():
                return value.to(self.device, self.dtype)
            # Sizes are read as Python's numbers, for which a device would be waited for.
            return value if name == SIZES else value.to(self.device)

        return {name: place(name, value) for name, value in pixels.items()}


def open_encoder(
    model: ModelFacts, adapter: ImageAdapter, device: MultimodalDevice, *, dtype: str, out: str
) -> VisionEncoder:
    """Load the vision part of a model, then register its device and place it there.

    Args:
        model: its files.
        adapter: of its architecture.
        device: that computes.
        dtype: of the vision part.
        out: of the text model.

    Raises:
        ModelError: the files are not of that architecture, or no image processor can be made of them.
        EngineError: the device cannot be used.
    """
    vision = load_vision(model.folder, dtype, adapter.parts.vision)
    try:
        processor = adapter.processor(model)
    except (OSError, ValueError, TypeError, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{model.folder} has no usable image processor: {text}", hint="fetch it again") from error
    place = device.place()
    vision.to(place)
    return VisionEncoder(adapter, vision, processor, place, getattr(torch, dtype), getattr(torch, out))
