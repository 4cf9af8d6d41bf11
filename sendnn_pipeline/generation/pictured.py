"""The images of an engine's texts: encoded once a request, read chunk by chunk, gone with the prompt's last chunk."""

import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import shake_128

import torch

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.generation.image_rows import ImageRows
from sendnn_pipeline.generation.messages import PromptImage
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.generation.row_table import FollowingTable, LeadingTable, RowTable
from sendnn_pipeline.generation.steps import PrefillStep
from sendnn_pipeline.multimodal.adapters import ImageAdapter
from sendnn_pipeline.multimodal.desk import Desk, EncodedHere
from sendnn_pipeline.multimodal.devices import MultimodalDevice
from sendnn_pipeline.multimodal.encoded_apart import open_apart
from sendnn_pipeline.multimodal.encoder import open_encoder
from sendnn_pipeline.multimodal.encoder_process import start_encoder
from sendnn_pipeline.multimodal.row_cache import RowCache
from sendnn_pipeline.multimodal.wire import EncoderSpec


@dataclass
class Pictured:
    """Which prompts wait for their images, and the rows of those that do not."""

    desk: Desk
    token_id: int
    """The token in whose places rows are read."""
    table: RowTable
    """Takes the rows of those that do not wait."""
    _waiting: dict[int, tuple[Sequence[int], Sequence[PromptImage]]] = field(default_factory=dict)
    """Places and images of requests, by the edge's ids."""

    def begin(self, request_id: int, prompt: Sequence[int], images: Sequence[PromptImage]) -> Mapping[int, int]:
        """Have the images of a request encoded; return what stands for their places where prefixes are compared."""
        places = [position for position, token_id in enumerate(prompt) if token_id == self.token_id]
        self._waiting[request_id] = places, images
        self.desk.begin(request_id, [(image.digest, image.data) for image in images])
        return marks_of(places, images)

    def take_ready(self, sequences_of: Callable[[int], Sequence[int]]) -> Iterator[tuple[Sequence[int], str]]:
        """Put the rows of images that are encoded into the table.

        Args:
            sequences_of: returns the scheduler's ids of a request.

        Yields:
            The sequences of each request, and why there are no rows for them; empty where there are.
        """
        for request_id, encoded in self.desk.take_ready():
            places, images = self._waiting.pop(request_id, (None, ()))
            if places is None:
                continue
            ids, fault = sequences_of(request_id), encoded if isinstance(encoded, str) else ""
            if not isinstance(encoded, str):
                numbers = [len(rows) for rows in encoded]
                if numbers == [image.num_rows for image in images] and sum(numbers) == len(places):
                    self.table.give(ids, ImageRows(places, torch.cat(list(encoded))), images)
                else:
                    fault = f"the encoder gave {numbers} rows for the {len(places)} places of images in the prompt"
            yield ids, fault

    def forget(self, request_id: int, scheduler_id: int, *, others: bool) -> None:
        """Free what a sequence has, and unless its request has others, what that waits for."""
        self.table.drop(scheduler_id)
        if not others and self._waiting.pop(request_id, None) is not None:
            self.desk.cancel(request_id)

    def computed(self, step: PrefillStep) -> None:
        """Free the rows of prompts that end with a step."""
        for chunk in step.chunks:
            if chunk.is_last:
                self.table.drop(chunk.request_id)


def marks_of(places: Sequence[int], images: Sequence[PromptImage]) -> dict[int, int]:
    """Return what stands for the places of images in a prefix: 64 bits for each row, of the image's own content."""
    marks: list[int] = []
    for image in images:
        marks += array("q", shake_128(image.digest).digest(8 * image.num_rows))
    # Where they are not as many, the request fails once its rows are there.
    return dict(zip(places, marks, strict=False))


def open_pictured(
    run: Run, adapter: ImageAdapter, device: MultimodalDevice, world: World, wake: int
) -> tuple[RowTable, Pictured | None]:
    """Load what only images need and place it on its device, or have a process begin to.

    Args:
        run: its model and options.
        adapter: of the model's architecture.
        device: that encodes.
        world: of this rank; its ranks form a group already.
        wake: an event's descriptor, written to when images are encoded.

    Returns:
        The rows that the runner reads, and in the first rank what fills them.

    Raises:
        PipelineError: it cannot be loaded, or the device cannot be used.
    """
    options, images = run.config.multimodal, generation_plan(run).images
    if images is None:
        raise PipelineError(f"{run.model.architecture} has an adapter in the engine's process alone")
    cache, out = RowCache(options.cache_mb * 2**20), run.config.model.dtype
    each_encodes = not (options.async_encoder or options.share_across_ranks)

    def encode_here() -> EncodedHere:
        encoder = open_encoder(run.model, adapter, device, dtype=options.dtype, out=out)
        # Where each rank encodes, they do so at once, and share the CPUs.
        return EncodedHere(encoder, cache, 0 if each_encodes else run.encoder_threads)

    if world.rank > 0:
        return FollowingTable(dtype=getattr(torch, out), encoder=encode_here() if each_encodes else None), None
    table = RowTable()
    if world.channel is not None:
        table = LeadingTable(channel=world.channel, each_encodes=each_encodes)
    if options.async_encoder:
        spec = EncoderSpec(
            folder=str(run.model.folder),
            device=options.device,
            dtype=options.dtype,
            out=out,
            threads=run.encoder_threads,
        )
        desk: Desk = open_apart(lambda: start_encoder(spec, lambda: os.eventfd_write(wake, 1)), cache)
    else:
        desk = encode_here()
    return table, Pictured(desk, images.layout.token_id, table)
