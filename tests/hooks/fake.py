"""Real distributions for tests: a module and its metadata in a folder on the path, as pip would leave them."""

from pathlib import Path


def install(folder: Path, name: str, code: str, *, entry: str | None = None, distribution: str | None = None) -> None:
    """Write a plugin's module and dist-info into ``folder``."""
    module = f"{(distribution or name).replace('-', '_')}_module"
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{(distribution or name).replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sendnn_pipeline]\n{name} = {entry or module}\n")
