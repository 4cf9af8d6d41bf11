"""Threads for what endpoints do beside the event loop and beside each other: none of them waits for another kind."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

# Hosts that are slow each hold one up until their time is over.
HOSTS, WORK = 32, 2


@dataclass(frozen=True)
class SideThreads:
    """Pools whose threads are started when they are needed."""

    hosts: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(HOSTS, thread_name_prefix="hosts"))
    """Of what waits for other machines."""
    work: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(WORK, thread_name_prefix="work"))
    """Of what computes, and may take much memory: few at once."""
