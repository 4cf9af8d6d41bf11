"""What this machine's CPU computes and how many of it we may use; no torch."""

import hashlib
import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

THREAD_VARIABLES = ("OMP_NUM_THREADS", "DT_PARALLEL_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
OVERSUBSCRIBED = 1.2
MOST_ON_POWER = 36
# Feature flags of x86-64 and of ARM that compilers generate code for.
VECTOR_EXTENSION = re.compile(r"avx\w*|amx\w*|fma4?|f16c|bmi[12]|gfni|v?aes|vpclmulqdq|asimd\w*|sve\w*|i8mm|bf16")

# What a CPU is, and not how fast it runs at the moment: of x86-64, ARM, Power and s390x.
CPU_IDENTITY = re.compile(
    r"(vendor_id|cpu family|model|model name|stepping|cache size|CPU (implementer|architecture|variant|part|revision)"
    r"|cpu|revision|processor 0)\s*:"
)


@dataclass(frozen=True)
class CpuFacts:
    """What the machine says about its CPUs; None where it says nothing."""

    cgroup_quota: float | None
    affinity: int | None
    physical: int | None
    logical: int | None


def read_cpu_facts(cgroup: Path = Path("/sys/fs/cgroup")) -> CpuFacts:
    """Read cgroup v2 and v1 limits, the affinity mask and the core counts."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return CpuFacts(_cgroup_quota(cgroup), affinity, psutil.cpu_count(logical=False), os.cpu_count())


def _cgroup_quota(cgroup: Path) -> float | None:
    """Return the CPUs a cgroup grants: v2 ``cpu.max``, else v1 ``cpu.cfs_quota_us`` over its period."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period_us = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def count_cpus(num_cpus: int, facts: CpuFacts) -> tuple[float | None, str]:
    """Return how many CPUs to use and why.

    ``process.num_cpus`` wins; else the tightest of the cgroup quota and the affinity mask, when either binds; else
    the physical cores; else the logical ones.
    """
    if num_cpus > 0:
        return float(num_cpus), "process.num_cpus (SENDNN_INFERENCE_NUM_CPUS)"
    candidates = [
        (facts.cgroup_quota, "the cgroup's CPU quota"),
        (facts.affinity, "the affinity mask"),
        (facts.physical, "physical cores"),
    ]
    found = [(float(count), why) for count, why in candidates if count]
    if found:
        return min(found, key=lambda pair: pair[0])
    if facts.logical:
        return float(facts.logical), "logical cores"
    return None, "no source says how many CPUs there are"


def threads_per_worker(cpus: float, workers: int) -> int:
    """Return the threads of each of ``workers`` processes that share ``cpus``."""
    return max(1, math.ceil(cpus / workers))


def thread_variables(threads: int) -> dict[str, str]:
    """Return the variables by which libraries take so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def encoder_threads(num_cpus: int, facts: CpuFacts, machine: str = platform.machine()) -> int:
    """Return the threads of a vision encoder, while which the ranks of its machine wait or have a CPU first.

    All CPUs are its, whatever the number of ranks. On Power, whose cores run several threads each, the logical ones, of
    which more than ``MOST_ON_POWER`` gain nothing; 0 where nothing says how many there are.
    """
    on_power = machine == "ppc64le"
    cpus, _ = count_cpus(num_cpus, replace(facts, physical=facts.logical) if on_power else facts)
    if cpus is None:
        return 0
    threads = threads_per_worker(cpus, 1)
    return min(threads, MOST_ON_POWER) if on_power else threads


def check_threads(environ: Mapping[str, str], threads: int) -> list[str]:
    """Return a warning for every thread variable that is unset or oversubscribes ``threads``."""
    warnings = []
    for name in THREAD_VARIABLES:
        text = environ.get(name)
        try:
            over = text is not None and float(text) > OVERSUBSCRIBED * threads
        except ValueError:
            over = False
        if text is None or over:
            state = "is unset" if text is None else f"is {text}"
            warnings.append(f"{name} {state}; {threads} fits the CPUs of each worker")
    return warnings


def computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()) -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware rather than by emulation."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16"}) if machine == "x86_64" else "bf16" in words


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()) -> str:
    """Return the architecture and the vector extensions for which native code may have been generated."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        words = set()
    return " ".join([machine, *sorted(word for word in words if VECTOR_EXTENSION.fullmatch(word))])


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()) -> str:
    """Return what the CPU is called, or its architecture where the machine does not say."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return machine
    # As x86-64, Power and s390x have it.
    found = (re.search(rf"^{name}\s*: (.+)$", text, re.MULTILINE) for name in ("model name", "cpu", "vendor_id"))
    name = next((match[1].strip() for match in found if match), "")
    return f"{name} ({machine})" if name else machine


def cpu_kind(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()) -> str:
    """Return a name for CPUs on which code takes equally long: what they are called, and a digest of what they are."""
    try:
        first = cpuinfo.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        first = []
    identity = sorted(line for line in first if CPU_IDENTITY.match(line))
    described = "\n".join([cpu_features(cpuinfo, machine), *identity])
    return f"{cpu_name(cpuinfo, machine)} {hashlib.sha256(described.encode()).hexdigest()[:8]}"
