"""A checkpoint's tensors, each mapped from its file when it is asked for."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.programs.quantized import ENDINGS

if TYPE_CHECKING:
    from pathlib import Path

    import torch

PAGE_BYTES = 4096


class CheckpointWeights(Mapping[str, "torch.Tensor"]):
    """Tensors by their names in the checkpoint, floating ones in one dtype; what nobody asks for is never read.

    Parts of quantized weights stay what they are.

    Tensors that have that dtype in the file stay mapped, and their pages are shared with every process that maps them.
    """

    def __init__(self, files: "Mapping[Path, str]", dtype: str) -> None:
        self._files, self._dtype = files, dtype
        self._tensors: dict[str, torch.Tensor] = {}
        self._opened: dict[str, tuple[Any, str]] | None = None

    def __getitem__(self, name: str) -> "torch.Tensor":
        """Return a tensor.

        Raises:
            KeyError: the checkpoint has none of that name.
            ModelError: its file cannot be read.
        """
        if name not in self._tensors:
            import torch

            opened, name_in_file = self._files_by_name()[name]
            tensor = self._read(opened, name_in_file)
            if tensor.is_floating_point() and not name.endswith(ENDINGS):
                tensor = tensor.to(getattr(torch, self._dtype))
            # Read every page now: no request pays for it, and memory is from the start what it will be.
            tensor.flatten().view(torch.uint8)[::PAGE_BYTES].sum()
            self._tensors[name] = tensor
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files_by_name())

    def __len__(self) -> int:
        return len(self._files_by_name())

    def _read(self, opened: Any, name: str) -> "torch.Tensor":
        """Return a tensor of an open file."""
        tensor: torch.Tensor = opened.get_tensor(name)
        return tensor

    def _files_by_name(self) -> dict[str, tuple[Any, str]]:
        if self._opened is None:
            from safetensors import SafetensorError, safe_open

            self._opened = {}
            for file, prefix in self._files.items():
                try:
                    opened = safe_open(file, framework="pt")
                except (OSError, SafetensorError) as error:
                    raise ModelError(f"{file} cannot be read: {error}", hint="fetch the model again") from None
                names: list[str] = opened.keys()  # type: ignore[no-untyped-call]
                self._opened |= {prefix + name: (opened, name) for name in names}
        return self._opened
