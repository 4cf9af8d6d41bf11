"""What a machine must have for Spyre, and from whom it comes; nothing of it is imported or opened. No torch."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from sendnn_pipeline.backends.sendnn.cards import DEVICES, ORCHESTRATOR, RANK, WORLD_SIZE, assigned_cards, check_cards
from sendnn_pipeline.backends.sendnn.environment import CACHE_DIR, CACHE_ENABLE
from sendnn_pipeline.backends.sendnn.versions import LIBRARY, expected_torch, is_here, library_version
from sendnn_pipeline.errors import BackendError

VFIO = Path("/dev/vfio")
# Who sees to it.
IMAGE = "it comes with IBM's images for Spyre, and from no package index"
HOST = "the host's administrator binds cards to vfio-pci and gives /dev/vfio to containers; IBM's operator does both"
COMPUTE, HARDWARE = "FLEX_COMPUTE", "SENTIENT"
OK, NOTE, FAIL = "ok", "note", "fail"


def spyre_findings(
    environ: Mapping[str, str], *, compiles_only: bool, ranks: int = 1, vfio: Path = VFIO
) -> Iterator[tuple[str, str]]:
    """Yield a state, ``ok``, ``note`` or ``fail``, and a line for each thing that was looked at.

    Args:
        environ: of the process.
        compiles_only: whether no card is needed.
        ranks: which need a card each.
        vfio: where the kernel shows devices that a program may drive.
    """
    yield from _library()
    if not compiles_only:
        yield from _cards(environ, ranks, vfio)
    if environ.get(CACHE_ENABLE, "1") != "1":
        yield NOTE, f"compiled graphs are not stored ({CACHE_ENABLE}={environ[CACHE_ENABLE]})"
    else:
        folder = environ.get(CACHE_DIR)
        yield OK, f"compiled graphs are stored in {f'{CACHE_DIR}={folder}' if folder else 'artifacts.dir'}"


def _library() -> Iterator[tuple[str, str]]:
    if not is_here():
        yield FAIL, f"{LIBRARY} is not importable: {IMAGE}"
        return
    library, torch = library_version(), version("torch")
    expected = expected_torch(library)
    if not expected:
        yield NOTE, f"{LIBRARY} {library or 'of an unknown version'} with torch {torch}: not known to go together"
    elif torch.split("+")[0] == expected:
        yield OK, f"{LIBRARY} {library} with torch {torch}"
    else:
        yield (
            NOTE,
            f"{LIBRARY} {library} goes with torch {expected}, and this is torch {torch}: ask IBM for a newer image",
        )


def _cards(environ: Mapping[str, str], ranks: int, vfio: Path) -> Iterator[tuple[str, str]]:
    groups = sorted(entry.name for entry in vfio.iterdir() if entry.name.isdigit()) if vfio.is_dir() else []
    if groups:
        yield OK, f"{vfio} has the groups {', '.join(groups)}"
    else:
        what = "has no group of a card" if vfio.is_dir() else "is missing"
        yield FAIL, f"{vfio} {what}: {HOST}"
    try:
        assigned = assigned_cards(environ)
        check_cards(environ, ranks)
    except BackendError as error:
        yield FAIL, str(error)
    else:
        first = RANK.format(0)
        missing = f"none of {WORLD_SIZE}, {DEVICES} and {first} says which cards there are: {ORCHESTRATOR}"
        yield (OK, f"cards are assigned: {', '.join(assigned)}") if assigned else (NOTE, missing)
    compute = environ.get(COMPUTE)
    if compute == HARDWARE:
        yield OK, f"{COMPUTE}={HARDWARE}"
    else:
        yield NOTE, f"{COMPUTE} is {compute or 'not set'}, and hardware is {HARDWARE}: the image sets it"
