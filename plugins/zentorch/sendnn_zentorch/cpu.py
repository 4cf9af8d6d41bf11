"""What the CPU must offer."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NEEDED = ("avx2", "fma")
"""What ZenDNN's float32 kernels need: without, they print a complaint and return garbage, so it is no matter of speed.

AVX-512 is not needed. zentorch's ``torch.compile`` backend does nothing without it, but its pass for ahead-of-time
compilation is another one, and the kernels choose by the CPU that they meet. The vendor does not matter.
"""


def missing_features(cpuinfo: Path) -> str:
    """Return which needed features a CPU lacks, empty where it lacks none.

    Args:
        cpuinfo: what Linux says of the CPU. A file that cannot be read, or one of another architecture (which lists
            ``Features`` rather than ``flags``), lacks them all.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return " and ".join(name for name in NEEDED if name not in flags)
