"""Files of a folder of options that nothing reads, and what to use instead."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from sendnn_pipeline.config.options import NOT_GROUPS, PROFILE
from sendnn_pipeline.errors import nearest

ENDINGS = (".yaml", ".yml")
# Hydra's own options, at any depth.
OF_HYDRA = "hydra"


def find_unread(folder: Path, groups: Collection[str]) -> Iterator[str]:
    """Yield a line for each kind of file that is not read.

    Args:
        folder: of options, a user's or a plugin's.
        groups: that there are.
    """
    profile = folder / PROFILE / "NAME.yaml"
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.suffix in ENDINGS and entry.is_file()]
    yield from _line(files, f"options lie in the folders of their groups; keys of any group are a profile: {profile}")
    for inner in entries:
        if inner.name == OF_HYDRA or not inner.is_dir():
            continue
        if not os.access(inner, os.R_OK | os.X_OK):
            yield from _line([inner], "this user may not")
            continue
        found = sorted(file for file in inner.glob("*") if file.suffix in ENDINGS and file.is_file())
        if inner.name not in (*groups, *NOT_GROUPS):
            yield from _line(found, no_group(inner, groups))
            continue
        yield from _line([file for file in found if file.suffix != ENDINGS[0]], "its ending is to be .yaml")
        deeper = sorted(file for file in inner.glob("*/*.y*ml") if not file.parent.name.startswith("."))
        yield from _line(deeper, f"it is to lie in {inner} itself")


def no_group(folder: Path, groups: Collection[str]) -> str:
    """Return why a folder's files are no options, and what to do."""
    profile = folder.parent / PROFILE / "NAME.yaml"
    why = f"there is no group {folder.name}, and none can be added; {nearest(folder.name, groups)}"
    return f"{why}; keys of any group are a profile: {profile}"


def _line(files: list[Path], why: str) -> Iterator[str]:
    if files:
        what = f"{files[0]} is" if len(files) == 1 else f"{files[0]} and {len(files) - 1} more are"
        yield f"{what} not read: {why}"
