"""From a run to its engine: threads, weights of this rank, caches, graphs."""

import os

import psutil

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.threads import set_torch_threads
from sendnn_pipeline.generation.core import GenerationCore
from sendnn_pipeline.generation.graphs import GenerationGraphs
from sendnn_pipeline.generation.kv_cache import FreshBlocks, make_caches
from sendnn_pipeline.generation.plan import generation_plan
from sendnn_pipeline.models.shards import open_weights


def open_core(run: Run, world: World) -> GenerationCore:
    """Return the engine of a run in this process; no weight is read before a Program is bound to it."""
    threads = set_torch_threads(run.threads)
    images = generation_plan(run).images
    whole = () if images is None else images.parts.vision
    weights, shards = open_weights(run.model, run.config.model.dtype, world.rank, world.size, whole)
    runtime_bytes = psutil.Process().memory_info().rss
    caches = make_caches(run)
    graphs = GenerationGraphs(run, weights, caches[0], shards)
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    # Several ranks compute together, so that each would wait for the one that writes.
    fresh = FreshBlocks(caches) if world.channel is None else None
    return GenerationCore(run, weights, caches, threads, runtime_bytes, wake, world, graphs=graphs, fresh=fresh)
