"""Which vector instructions a CPU's code may use: the compiler is asked for its flags, not for programs."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch._inductor.cpu_vec_isa import VecISA


@contextmanager
def asked_by_flags() -> Iterator[None]:
    """Have inductor learn, while the block runs, what the compiler can by a call of milliseconds for each set.

    What the CPU has, torch knows. For AVX-512's bfloat16, VNNI and AMX it then builds programs and opens each in a
    process of its own, which takes more than two seconds of a first start.
    """
    from torch._inductor.cpu_vec_isa import VecISA

    builds = VecISA.check_build
    VecISA.check_build = takes_flags  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        VecISA.check_build = builds  # type: ignore[method-assign]


def takes_flags(isa: "VecISA", _code: str = "") -> bool:
    """Return whether the compiler knows the flags of ``isa``."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    command = [get_cpp_compiler(), *isa.build_arch_flags().split(), "-fsyntax-only", "-x", "c++", os.devnull]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
