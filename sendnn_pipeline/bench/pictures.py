"""The images of a workload: drawn, so that no two of a bench are equal and an image cache answers none."""

import io
import random

from sendnn_pipeline.config.serving import WorkloadConfig

NUM_SHAPES = 24


def draw_images(workload: WorkloadConfig, round_number: int, request: int) -> list[bytes]:
    """Return the PNG files of one request, the same for the same seed."""
    size = (workload.image_width, workload.image_height)
    return [
        _draw(random.Random(f"{workload.seed}/{round_number}/{request}/{image}"), size)
        for image in range(workload.images_per_request)
    ]


def _draw(chooser: random.Random, size: tuple[int, int]) -> bytes:
    from PIL import Image, ImageDraw

    def color() -> tuple[int, int, int]:
        return chooser.randrange(256), chooser.randrange(256), chooser.randrange(256)

    image = Image.new("RGB", size, color())
    pen = ImageDraw.Draw(image)
    for _ in range(NUM_SHAPES):
        left, right = sorted(chooser.randrange(size[0]) for _ in range(2))
        top, bottom = sorted(chooser.randrange(size[1]) for _ in range(2))
        pen.ellipse((left, top, right, bottom), fill=color())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
