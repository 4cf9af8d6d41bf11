"""Images of a chat: read from where it says, judged, and put into its prompt in place of what the template wrote."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sendnn_pipeline.config.multimodal import MultimodalConfig
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.conversation import ImageReference
from sendnn_pipeline.generation.api.refusals import invalid
from sendnn_pipeline.generation.messages import PromptImage
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.multimodal.adapters import ImageLayout
from sendnn_pipeline.multimodal.fetch import Access, fetch, is_inline
from sendnn_pipeline.multimodal.pictures import Picture, PictureError, check_picture
from sendnn_pipeline.paths import expand_path

# Pixels of the longer edge of an image of little detail.
LOW = 512


@dataclass(frozen=True)
class PlacedImages:
    """A prompt with its images."""

    text: str
    images: list[PromptImage]


async def read_images(front: Frontend, references: Sequence[ImageReference]) -> list[Picture]:
    """Return the pictures of a chat, each read and judged in a thread that no other request needs for its text.

    Raises:
        RequestError: 400, naming the part whose image is at fault.
    """
    options = front.run.config.multimodal
    if len(references) > options.max_images:
        message = (
            f"messages have {len(references)} images, and {options.max_images} are the most (multimodal.max_images)"
        )
        raise RequestError(400, message, param="messages", code="too_many_items")
    access = access_of(options)
    return list(await asyncio.gather(*(_read(front, one, access, options) for one in references)))


def access_of(options: MultimodalConfig) -> Access:
    """Return what may be read for a request."""
    folders = [expand_path(folder, "multimodal.allowed_folders") for folder in options.allowed_folders]
    return Access(options.allowed_domains, folders, options.max_image_bytes, options.fetch_seconds)


async def _read(front: Frontend, reference: ImageReference, access: Access, options: MultimodalConfig) -> Picture:
    run, threads = asyncio.get_running_loop().run_in_executor, front.threads
    longest = LOW if reference.detail == "low" else 0
    try:
        data = await run(threads.work if is_inline(reference.url) else threads.hosts, fetch, reference.url, access)
        return await run(threads.work, check_picture, data, options.max_pixels, longest)
    except PictureError as error:
        raise invalid(reference.param, str(error)) from None


def place_images(layout: ImageLayout, text: str, pictures: Sequence[Picture], params: Sequence[str]) -> PlacedImages:
    """Put the tokens of images where the template wrote a placeholder for each.

    Args:
        layout: of the model.
        text: that the template made.
        pictures: in their order.
        params: where each stands, for errors.

    Raises:
        RequestError: 400, an image has a size that the model takes nothing from, or placeholders and images differ.
    """
    pieces = text.split(layout.placeholder)
    if len(pieces) != len(pictures) + 1:
        message = f"have {len(pictures)} images, and their text has {len(pieces) - 1} times {layout.placeholder}"
        raise invalid("messages", f"{message}, which stands for one: leave it to the chat template to write it")
    made, images = pieces[0], []
    for picture, param, piece in zip(pictures, params, pieces[1:], strict=True):
        try:
            expanded = layout.expand(picture.width, picture.height)
        except ValueError as error:
            raise invalid(param, f"has {picture.width} x {picture.height} pixels and {error}") from None
        images.append(PromptImage(picture.data, picture.digest, expanded.count(layout.placeholder)))
        made += expanded + piece
    return PlacedImages(made, images)


def check_places(front: Frontend, ids: Sequence[int], images: Sequence[PromptImage]) -> None:
    """Check that a prompt has a place for every row of its images, and no other.

    Raises:
        RequestError: 400.
    """
    planned = generation_plan(front.run).images
    wanted = sum(image.num_rows for image in images)
    if planned is not None and ids.count(planned.layout.token_id) != wanted:
        message = "messages become tokens in which the places of images are not those of the images"
        raise RequestError(400, message, param="messages", code="invalid_value")
