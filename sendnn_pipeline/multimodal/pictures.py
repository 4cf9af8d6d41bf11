"""Pictures as they come: judged by their header before a pixel is decoded, then the right way up, in RGB. No torch."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 2**25
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L")


class PictureError(ValueError):
    """Something is no picture that is taken; the message follows the name of the field."""


@dataclass(frozen=True)
class Picture:
    """A picture that can be decoded."""

    data: bytes
    """Of its file."""
    width: int
    """The right way up, in pixels; so is the height."""
    height: int
    digest: bytes
    """Of its pixels in RGB and of its size: equal pictures in different files have the same."""


def check_picture(data: bytes, max_pixels: int = MAX_PIXELS, longest: int = 0) -> Picture:
    """Return the picture that a file has.

    Args:
        data: of the file.
        max_pixels: that are taken.
        longest: pixels of the longer edge to which a larger picture is made smaller; 0 leaves it as it is.

    Raises:
        PictureError: it has none, of none of the known forms, one that is too large, or not all of it.
    """
    _header(data, max_pixels)
    try:
        image = open_picture(data)
    except Exception as error:  # whatever a decoder can do with a broken file
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise PictureError(f"is broken: {text}") from None
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        data = stream.getvalue()
    digest = hashlib.sha256(f"RGB {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return Picture(data, image.width, image.height, digest.digest())


def open_picture(data: bytes) -> "Image":
    """Decode a file's first picture: turned as its EXIF says, on white where it is transparent, in RGB."""
    from PIL import Image, ImageOps

    with _quiet():
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
        return _rgb(ImageOps.exif_transpose(image))


@contextmanager
def _quiet() -> Iterator[None]:
    """Have a library say nothing of a file: its size is judged by our own limit, and what is damaged is refused."""
    with catch_warnings():
        simplefilter("ignore")
        yield


def _header(data: bytes, max_pixels: int) -> None:
    """Judge a picture by its header alone: no pixel is decoded."""
    from PIL import Image

    if not data:
        raise PictureError("is empty")
    try:
        with _quiet():
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise PictureError(f"has far more pixels than the {max_pixels:,} that are taken") from None
    except Exception:  # whatever a decoder can do with what is none of its files
        raise PictureError(f"is no picture of the forms {', '.join(FORMATS)}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError(f"has {width} x {height} pixels, and {max_pixels:,} are the most that are taken")


def _rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode in SIXTEEN_BITS:
        # Pillow itself would cut what is over 255 off.
        image = image.point(lambda value: value / 256, "L") if image.mode == "I" else _eight_bits(image)
    if image.mode == "RGB":
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: "Image") -> "Image":
    import numpy as np
    from PIL import Image

    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
