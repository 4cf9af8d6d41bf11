"""Memory that is left, by a cgroup's files as containers have them."""

from types import SimpleNamespace

import psutil
import pytest

from sendnn_pipeline.machine.memory import available_bytes

GIB = 2**30
V2 = {"memory.max": f"{4 * GIB}\n", "memory.current": f"{3 * GIB}\n", "memory.stat": f"anon 5\ninactive_file {GIB}\n"}
V1 = {
    "memory/memory.limit_in_bytes": f"{4 * GIB}\n",
    "memory/memory.usage_in_bytes": f"{GIB}\n",
    "memory/memory.stat": "cache 5\ntotal_inactive_file 0\n",
}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 64 * GIB),
        (V2, 2 * GIB),
        (V1, 3 * GIB),
        (V2 | {"memory.max": "max\n"}, 64 * GIB),
        (V2 | {"memory.max": f"{128 * GIB}\n"}, 64 * GIB),
        (V2 | {"memory.current": f"{9 * GIB}\n"}, 0),
        (V2 | {"memory.stat": "not\nof this form\n"}, 64 * GIB),
        ({"memory.max": f"{GIB}\n"}, 64 * GIB),
        # What v1 says where there is no limit.
        (V1 | {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 64 * GIB),
    ],
)
def test_the_least_of_machine_and_container(files, left, tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_bytes(tmp_path) == left
