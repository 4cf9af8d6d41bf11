"""C++ that inductor generated, built into a library: beside Python, which can generate the next one meanwhile."""

import json
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Of inductor, so that a package has sources; headers that are compiled beforehand take longer than they save.
SOURCES_ONLY = {
    "aot_inductor.package_cpp_only": True,
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
}
# By which the compiler takes what inductor lists under these names.
SIGNS = {
    "definitions": "-D",
    "include_dirs": "-I",
    "cflags": "-",
    "ldflags": "-",
    "libraries_dirs": "-L",
    "libraries": "-l",
}


def build_library(package: Path, library: Path) -> None:
    """Build the sources of ``package``, of which nothing stays, and write ``library``.

    Raises:
        CalledProcessError: the compiler failed; its ``output`` says why.
    """
    with tempfile.TemporaryDirectory(prefix="sources-", dir=package.parent) as folder:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
        # It may hold the weights, which are extracted now, and are to be in the library.
        package.unlink()
        _build(Path(folder), library)


def _build(folder: Path, library: Path) -> None:
    (source,) = folder.rglob("*.wrapper.cpp")
    name = source.name.removesuffix(".wrapper.cpp")
    compiling, linking = (
        json.loads(source.with_name(f"{name}.wrapper_{step}_flags.json").read_text(encoding="utf-8"))
        for step in ("compile", "linker")
    )
    compiled = source.with_suffix(".o")
    embedded = [str(file) for file in source.parent.glob("*.weights.o")]
    _run([compiling["compiler"], str(source), *_words(compiling), "-c", "-o", str(compiled)], source.parent)
    _run([linking["compiler"], str(compiled), *embedded, *_words(linking), "-o", str(library)], source.parent)


def _words(flags: Mapping[str, Any]) -> list[str]:
    """Return the command line of what inductor writes as JSON."""
    words = [f"{sign}{word.strip()}" for name, sign in SIGNS.items() for word in flags[name]]
    return [*words, *(word for text in flags["passthrough_args"] for word in text.split())]


def _run(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
