"""The environment as it was when the package was imported: nothing that is set later counts."""

import os
from collections.abc import Mapping

import torch.distributed as dist

from torch_sendnn.errors import DeviceError

# What deeptools calls its limits, by variable.
LIMITS = {
    "VLLM_DT_CHUNK_LEN": "vllm_chunk_length",
    "VLLM_DT_MAX_CONTEXT_LEN": "vllm_max_context_length",
    "VLLM_DT_MAX_BATCH_SIZE": "vllm_max_batch_size",
    "VLLM_DT_MAX_BATCH_TKV_LIMIT": "vllm_max_batch_tkv_limit",
}
CACHE_ENABLE, CACHE_DIR = "TORCH_SENDNN_CACHE_ENABLE", "TORCH_SENDNN_CACHE_DIR"
DISABLE_COMPILATION = "DISABLE_COMPILATION"
# Of this emulator alone: what the card takes, and for how long a set of graphs is half written.
CARD_BYTES, COMPILE_SECONDS = "TORCH_SENDNN_EMULATED_CARD_BYTES", "TORCH_SENDNN_EMULATED_COMPILE_SECONDS"
# Which card is this process's, of how many.
RANK, WORLD_SIZE, LOCAL_RANK, CARDS = "RANK", "WORLD_SIZE", "LOCAL_RANK", "AIU_WORLD_SIZE"
READ = (
    *LIMITS,
    RANK,
    WORLD_SIZE,
    CARDS,
    LOCAL_RANK,
    "COMPILATION_MODE",
    "FLEX_COMPUTE",
    "FLEX_DEVICE",
    "FLEX_HDMA_COLLSIZE",
    "FLEX_HDMA_P2PSIZE",
    "FLEX_OVERWRITE_NMB_FRAME",
    CACHE_ENABLE,
    CACHE_DIR,
    CARD_BYTES,
    COMPILE_SECONDS,
    DISABLE_COMPILATION,
    "DT_PARALLEL_THREADS",
)
MODES = {True: ("offline_decoder", "true"), False: ("offline", "false")}


class Environment:
    """What was set at import."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.captured = {name: environ[name] for name in READ if name in environ}

    def check_unchanged(self) -> None:
        """Refuse variables that were set, or changed, too late to count."""
        for name in READ:
            then, now = self.captured.get(name), os.environ.get(name)
            if then != now:
                raise DeviceError(f"{name} was {then} when torch_sendnn was imported, and is {now} now")

    def check_group(self) -> None:
        """Refuse a group of processes that is another than the environment says, and one here without a card."""
        rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        told = self.captured.get(RANK, "0"), self.captured.get(WORLD_SIZE, "1")
        if told != (str(rank), str(size)):
            raise DeviceError(f"{RANK} and {WORLD_SIZE} are {told}, and this is process {rank} of {size}")
        local, cards = int(self.captured.get(LOCAL_RANK, "0")), self.captured.get(CARDS)
        if cards is not None and local >= int(cards):
            raise DeviceError(f"process {local} of this machine, and {CARDS} is {cards}")

    def check_complete(self, *, dynamic: bool) -> None:
        """Refuse to compile a kind of graphs that the environment is not made for."""
        for name, expected in zip(("COMPILATION_MODE", "FLEX_OVERWRITE_NMB_FRAME"), MODES[dynamic], strict=True):
            if self.captured.get(name) != expected:
                kind = "decoders" if dynamic else "static graphs"
                raise DeviceError(f"{name} is {self.captured.get(name)}, and {kind} need {expected}")
        for name in LIMITS:
            if name != "VLLM_DT_CHUNK_LEN" or dynamic:
                self.limit(name)
        if self.limit("VLLM_DT_MAX_BATCH_SIZE") < 2:
            raise DeviceError("VLLM_DT_MAX_BATCH_SIZE is below 2")
        if dynamic and self.limit("VLLM_DT_CHUNK_LEN") % 64:
            raise DeviceError("VLLM_DT_CHUNK_LEN is not a multiple of 64")

    def limit(self, name: str) -> int:
        """Return a number that must be set."""
        text = self.captured.get(name, "")
        if not text.isdecimal() or int(text) < 1:
            raise DeviceError(f"{name} is {text or 'not set'}, and must be a number")
        return int(text)

    def config(self) -> dict[str, str]:
        """Return the limits under deeptools' names."""
        return {ours: self.captured.get(name, "") for name, ours in LIMITS.items()}

    @property
    def compiles_only(self) -> bool:
        """Whether there is to be no card."""
        return self.captured.get("FLEX_DEVICE") == "COMPILE"
