"""The CPU as a device of vision encoders."""


class CpuDevice:
    """There is always one."""

    missing = ""

    def place(self) -> str:
        """Return torch's name of it."""
        return "cpu"
