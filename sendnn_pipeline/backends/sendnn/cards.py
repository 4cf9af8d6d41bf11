"""Which cards a process was assigned: what an orchestrator sets, and how many ranks that is enough for. No torch."""

from collections.abc import Mapping
from itertools import count, takewhile

from sendnn_pipeline.errors import BackendError

# How many; by index, with commas; and the PCI address of each rank's.
WORLD_SIZE, DEVICES, RANK = "AIU_WORLD_SIZE", "SPYRE_DEVICES", "AIU_WORLD_RANK_{}"
ORCHESTRATOR = "the orchestrator sets it for the cards that a container gets"


def assigned_cards(environ: Mapping[str, str]) -> dict[str, int]:
    """Return how many cards each variable assigns that is set; of addresses, those without a gap from rank 0 on.

    Raises:
        BackendError: it is not a number.
    """
    found = {}
    if text := environ.get(WORLD_SIZE):
        if not text.isdecimal() or not int(text):
            raise BackendError(f"{WORLD_SIZE}={text} must be a number of cards", hint=ORCHESTRATOR)
        found[f"{WORLD_SIZE}={text}"] = int(text)
    if text := environ.get(DEVICES):
        found[f"{DEVICES}={text}"] = len({part.strip() for part in text.split(",")} - {""})
    addresses = list(takewhile(environ.get, map(RANK.format, count())))
    if addresses:
        found[" ".join(f"{name}={environ[name]}" for name in addresses)] = len(addresses)
    return found


def check_cards(environ: Mapping[str, str], ranks: int) -> None:
    """Refuse more ranks than there are cards, as far as the environment says how many.

    Raises:
        BackendError: a variable assigns fewer.
    """
    for text, number in assigned_cards(environ).items():
        if number < ranks:
            raise BackendError(
                f"{ranks} ranks on this machine take a card each, and {text} assigns {number}",
                hint=f"use {number} ranks, or have the orchestrator assign {ranks} cards",
            )
