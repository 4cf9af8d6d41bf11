"""Plugins of this folder as distributions on the path, as an editable installation would leave them."""

import os
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def install(name: str, folder: Path) -> str:
    """Write the metadata of a project of this folder into ``folder``; return the PYTHONPATH that has both."""
    project = HERE / name
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    info = folder / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    (info / "METADATA").write_text(metadata)
    lines = []
    for group, points in about["entry-points"].items():
        lines += [f"[{group}]", *(f"{point} = {module}" for point, module in points.items())]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))
    paths = (str(folder), str(project), os.environ.get("PYTHONPATH"))
    return os.pathsep.join(filter(None, paths))
