"""CUDA as a device of vision encoders."""

from pathlib import Path

from sendnn_pipeline.errors import EngineError


class CudaDevice:
    """The first one."""

    driver = Path("/proc/driver/nvidia/version")

    @property
    def missing(self) -> str:
        """Why it cannot be chosen here; no torch is imported for it."""
        return "" if self.driver.is_file() else "there is no NVIDIA driver; use cpu or auto"

    def place(self) -> str:
        """Compute a first number on it.

        Raises:
            EngineError: it does not work.
        """
        import torch

        try:
            torch.zeros(1, device="cuda").cpu()
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            message = f"multimodal.device=cuda cannot be used: {type(error).__name__}: {text}"
            raise EngineError(message, hint="use multimodal.device=cpu") from error
        return "cuda"
