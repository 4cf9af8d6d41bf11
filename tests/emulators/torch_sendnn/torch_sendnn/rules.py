"""Rules for sizes and dynamo's marks, of static graphs and of decoders."""

from collections.abc import Sequence
from typing import Any

import torch

from torch_sendnn.environment import Environment
from torch_sendnn.errors import DeviceError
from torch_sendnn.inputs import Inputs

BLOCK = 64


def check_static(inputs: Inputs, arguments: Sequence[Any], environment: Environment, *, warming: bool) -> None:
    """Check a call of a static graph; marks count only while it is traced."""
    most_tokens = environment.limit("VLLM_DT_MAX_CONTEXT_LEN")
    most_rows = environment.limit("VLLM_DT_MAX_BATCH_SIZE")
    for index, tensor in inputs.primary(arguments):
        name = inputs.names[index]
        if tensor.dim() != 2:
            raise DeviceError(f"{name} has {tensor.dim()} dimensions, not rows and tokens")
        rows, tokens = tensor.shape
        if tokens % BLOCK:
            raise DeviceError(f"{name} has {tokens} tokens, not a multiple of {BLOCK}")
        if tokens > most_tokens or rows > most_rows:
            raise DeviceError(f"{name} is {rows} x {tokens}, above the limits {most_rows} x {most_tokens}")
        if warming:
            _check_marks(name, tensor, static=range(tensor.dim()))


def check_decoder(inputs: Inputs, arguments: Sequence[Any], environment: Environment) -> None:
    """Check a call of prefill or decode, marks included: they count at every call."""
    roles = {name: arguments[index] for name, index in inputs.roles.items()}
    slots, table = roles["slot_mapping"], roles["block_table"]
    masks = [roles["current_tkv_mask"], roles["left_padded_prompt_mask"]]
    rows, tokens = slots.shape
    prefill = tokens > 1
    chunk, most_tkv = environment.limit("VLLM_DT_CHUNK_LEN"), environment.limit("VLLM_DT_MAX_BATCH_TKV_LIMIT")
    if prefill and (rows, tokens) != (1, chunk):
        raise DeviceError(f"a prefill of {rows} x {tokens}, and it takes one chunk of {chunk}")
    if rows > environment.limit("VLLM_DT_MAX_BATCH_SIZE"):
        raise DeviceError(f"a decode of {rows} rows, more than VLLM_DT_MAX_BATCH_SIZE")
    context = environment.limit("VLLM_DT_MAX_CONTEXT_LEN")
    # The last chunk of the longest prompt may end behind it.
    _check_volume(rows, masks[0], table, -(-context // chunk) * chunk if prefill else context, most_tkv)
    if any(mask.shape != (rows,) for mask in masks) or table.shape[0] != rows:
        raise DeviceError("masks and block table have other rows than the tokens")
    if bool((masks[1] % BLOCK).any()):
        raise DeviceError("left padding that is not in whole blocks")
    for index, tensor in inputs.primary(arguments):
        name = inputs.names[index]
        if tensor.dim() == 1:
            _check_marks(name, tensor, dynamic=() if prefill else (0,), unmarked=(0,) if prefill else ())
        elif tensor is table:
            _check_marks(name, tensor, static=(0,) if prefill else (), dynamic=(1,) if prefill else (0, 1))
        else:
            static = (0, *range(2, tensor.dim())) if prefill else tuple(range(1, tensor.dim()))
            _check_marks(name, tensor, static=static, dynamic=(1,) if prefill else (0,))


def _check_volume(rows: int, tkv: torch.Tensor, table: torch.Tensor, most_tokens: int, most_tkv: int) -> None:
    longest = int(tkv.max())
    if longest > most_tokens:
        raise DeviceError(f"{longest} tokens in a row, above the {most_tokens} of VLLM_DT_MAX_CONTEXT_LEN")
    if longest * rows > most_tkv:
        raise DeviceError(f"{rows} rows of {longest} tokens, above VLLM_DT_MAX_BATCH_TKV_LIMIT={most_tkv}")
    if table.shape[1] * BLOCK < longest:
        raise DeviceError(f"a block table of {table.shape[1]} blocks for {longest} tokens")


def _check_marks(
    name: str,
    tensor: torch.Tensor,
    *,
    static: Sequence[int] = (),
    dynamic: Sequence[int] = (),
    unmarked: Sequence[int] = (),
) -> None:
    statics: set[int] = getattr(tensor, "_dynamo_static_indices", None) or set()
    dynamics: set[int] = getattr(tensor, "_dynamo_dynamic_indices", None) or set()
    for axis in static:
        if axis not in statics:
            raise DeviceError(f"{name}: dimension {axis} is not marked static")
    for axis in dynamic:
        if axis not in dynamics:
            raise DeviceError(f"{name}: dimension {axis} is not marked dynamic")
    for axis in unmarked:
        if axis in statics | dynamics:
            raise DeviceError(f"{name}: dimension {axis} is marked, and must not be")
