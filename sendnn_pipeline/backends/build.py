"""C++ that inductor generated, built into a library: beside Python, which can generate the next one meanwhile."""

import json
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Of inductor, so that a package has sources; headers that are compiled beforehand take longer than they save.
SOURCES_ONLY = {
    "aot_inductor.package_cpp_only": True,
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
}
# What inductor writes before each kernel, behind everything that calls them.
KERNELS_BEGIN = "#include <torch/csrc/inductor/cpp_prefix.h>\n"
# Nobody debugs it, and debug information takes time.
NOT_DEBUGGED = "-g0"
# As torch's own attention does: exact to 20 units in the last place of float32, inline, in half the time.
EXP_OF_HALVES = {".exp()": ".exp_u20()"}
# By which the compiler takes what inductor lists under these names.
SIGNS = {
    "definitions": "-D",
    "include_dirs": "-I",
    "cflags": "-",
    "ldflags": "-",
    "libraries_dirs": "-L",
    "libraries": "-l",
}


def build_library(package: Path, library: Path, calls_level: str, replaced: Mapping[str, str]) -> None:
    """Build the sources of ``package``, of which nothing stays, and write ``library``.

    Args:
        package: what inductor wrote; it is removed.
        library: where the library goes.
        calls_level: how far what calls the kernels is optimized, such as O1. It is more C++ than they are.
        replaced: what kernels call instead of what inductor has them call.

    Raises:
        CalledProcessError: the compiler failed; its ``output`` says why.
    """
    with tempfile.TemporaryDirectory(prefix="sources-", dir=package.parent) as folder:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
        # It may hold the weights, which are extracted now, and are to be in the library.
        package.unlink()
        _build(Path(folder), library, calls_level, replaced)


def _build(folder: Path, library: Path, calls_level: str, replaced: Mapping[str, str]) -> None:
    (source,) = folder.rglob("*.wrapper.cpp")
    name = source.name.removesuffix(".wrapper.cpp")
    compiling, linking = (
        json.loads(source.with_name(f"{name}.wrapper_{step}_flags.json").read_text(encoding="utf-8"))
        for step in ("compile", "linker")
    )
    parts = {source: [f"-{calls_level}"], **{file: [] for file in _take_out_kernels(source, replaced)}}

    def compile_part(part: Path) -> str:
        compiled = str(part.with_suffix(".o"))
        words = [*_words(compiling), *parts[part], NOT_DEBUGGED]
        _run([compiling["compiler"], str(part), *words, "-c", "-o", compiled], folder)
        return compiled

    with ThreadPoolExecutor(len(parts)) as pool:
        compiled = list(pool.map(compile_part, parts))
    embedded = [str(file) for file in source.parent.glob("*.weights.o")]
    _run([linking["compiler"], *compiled, *embedded, *_words(linking), "-o", str(library)], source.parent)


def _take_out_kernels(source: Path, replaced: Mapping[str, str]) -> list[Path]:
    """Move the kernels of ``source`` to a file of their own; a graph of library calls alone has none."""
    calls, kernels_begin, kernels = source.read_text(encoding="utf-8").partition(KERNELS_BEGIN)
    if not kernels_begin:
        return []
    source.write_text(calls, encoding="utf-8")
    file = source.with_name("kernels.cpp")
    for written, faster in replaced.items():
        kernels = kernels.replace(written, faster)
    file.write_text(kernels_begin + kernels, encoding="utf-8")
    return [file]


def _words(flags: Mapping[str, Any]) -> list[str]:
    """Return the command line of what inductor writes as JSON."""
    words = [f"{sign}{word.strip()}" for name, sign in SIGNS.items() for word in flags[name]]
    return [*words, *(word for text in flags["passthrough_args"] for word in text.split())]


def _run(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
