"""The keys of images."""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from sendnn_pipeline.config.dtypes import Dtype
from sendnn_pipeline.config.numbers import Positive


@dataclass(frozen=True, kw_only=True)
class MultimodalConfig:
    """Vision encoders."""

    dtype: Dtype = Dtype.auto
    """`float32`, `float16`, `bfloat16`; `auto` is float16, float32 on s390x and ppc64le."""
    device: str = "auto"
    """Where the encoder runs."""
    async_encoder: bool = True
    """Encode in a process of its own, beside which text goes on."""
    share_across_ranks: bool = True
    """Without `async_encoder`, of several ranks the first encodes and the others get its rows; false: each encodes."""
    cache_mb: Annotated[int, Meta(ge=0)] = 512
    """MiB of encoded images that are not encoded again, by what they show; 0 keeps none."""
    max_images: Positive = 16
    """Images in one request."""
    max_image_bytes: Positive = 33_554_432
    """Of the file of an image."""
    max_pixels: Positive = 33_554_432
    """Of an image, by its header, before it is decoded."""
    allowed_domains: list[str] = field(default_factory=list)
    """Hosts that images are fetched from, `.example.org` for all below one; none by default."""
    allowed_folders: list[str] = field(default_factory=list)
    """Folders whose files requests may name by `file:` URLs; none by default."""
    fetch_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """How long fetching an image may take."""
