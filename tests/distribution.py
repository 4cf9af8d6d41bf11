"""Which tests run in one worker, in which order, and what both workers make only once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

SERVED = "served_"


def group_of(item: pytest.Item) -> str:
    """Return the name that tests of one worker share; empty where a test may run in any.

    A served session fixture is a group, as each worker that asks for it would start the server. A file with fixtures
    of its own for all of its tests is another.
    """
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009  it has no public name
    # Asked for as an argument, or named by a parameter.
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    served = [name for name in (*fixtures, *parameters) if isinstance(name, str) and name.startswith(SERVED)]
    if len(served) > 1:
        raise pytest.UsageError(f"{item.nodeid} asks for {' and '.join(served)}: ask for one, and parametrize")
    if served:
        return served[0]
    shared = any(found[-1].scope == "module" for found in fixtures.values())
    return str(item.path) if shared else ""


def distribute(items: list[pytest.Item]) -> None:
    """Mark the groups, and order them: first what compiles, then what shares, and last the tests that fill the gaps."""
    groups = {item: group_of(item) for item in items}
    slow = {groups[item] or item.nodeid for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> tuple[bool, bool, str]:
        group = groups[item]
        return (group or item.nodeid) not in slow, not group, group

    for item, group in groups.items():
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=place)


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this session, which its workers share."""
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a file that the first worker makes and the others wait for."""
    file = session_folder(factory) / name
    with FileLock(f"{file}.lock"):
        if not file.exists():
            make(file)
    return file
