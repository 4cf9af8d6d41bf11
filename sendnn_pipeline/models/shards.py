"""The part of a checkpoint that one of several ranks has, by transformers' own plan of a model, or ours."""

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.json_files import read_config_json
from sendnn_pipeline.models.weights import CheckpointWeights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from sendnn_pipeline.models.facts import ModelFacts

BY_OUTPUT, BY_INPUT = "colwise", "rowwise"
# By output of two products that are one: each rank has a part of both.
PACKED = "packed_colwise"
# What every rank has whole: norms, whose gradients alone would differ.
WHOLE = "replicated_with_grad_allreduce"
ATTENTION = {f"layers.*.self_attn.{name}_proj": BY_OUTPUT for name in "qkv"} | {"layers.*.self_attn.o_proj": BY_INPUT}
# Of decoders without experts whose plan in transformers is of experts alone.
WITHOUT_EXPERTS = {
    "granitemoehybrid": ATTENTION
    | {"layers.*.shared_mlp.input_linear": PACKED, "layers.*.shared_mlp.output_linear": BY_INPUT}
}


@dataclass(frozen=True)
class ShardPlan:
    """How the products of a model's layers are divided: each rank has some outputs of these, some inputs of those."""

    by_output: tuple[str, ...]
    """Names of modules, with ``*`` for a number."""
    by_input: tuple[str, ...]
    packed: tuple[str, ...] = ()
    """Of outputs, those of two products at once, one after the other."""
    whole: tuple[str, ...] = ()
    """Parts of the model that are not divided, whatever their modules are called."""

    def axis(self, name: str) -> int | None:
        """Return the axis along which the weight of this name is divided; None where every rank has it whole."""
        module, _, kind = name.rpartition(".")
        if not set(self.whole).isdisjoint(module.split(".")):
            return None
        if _among(module, self.by_output) or _among(module, self.packed):
            return 0
        return 1 if _among(module, self.by_input) and kind == "weight" else None

    def products(self, name: str) -> int:
        """Return of how many products the weight of this name is."""
        return 2 if _among(name.rpartition(".")[0], self.packed) else 1

    def adds_once(self, name: str) -> bool:
        """Return whether the tensor is added to what ranks have parts of, so that one of them has to do it."""
        module, _, kind = name.rpartition(".")
        return kind == "bias" and _among(module, self.by_input)

    def sums(self, module: str) -> bool:
        """Return whether the module gives each rank a part of a sum."""
        return _among(module, self.by_input)


def read_shard_plan(folder: "Path", whole: tuple[str, ...] = ()) -> ShardPlan:
    """Return the plan that transformers has for a model, or ours where it lacks a part of no use to the model.

    Args:
        folder: the model's folder; of one that reads images the text model is divided.
        whole: parts that are not divided.

    Raises:
        ModelError: there is none, or one of other parts than products.
    """
    from transformers import CONFIG_MAPPING

    described = read_config_json(folder)
    text = described.get("text_config")
    config = text if isinstance(text, dict) else described
    kind = str(config.get("model_type"))
    plan: Mapping[str, str] = getattr(CONFIG_MAPPING[kind], "base_model_tp_plan", None) or {}
    if config.get("num_local_experts") == 0:
        plan = WITHOUT_EXPERTS.get(kind, plan)
    hint = "leave parallel.tensor_parallel at 1"
    if not {BY_OUTPUT, BY_INPUT} <= set(plan.values()):
        raise ModelError(f"{folder}: transformers has no plan to divide the layers of {kind} among ranks", hint=hint)
    other = next((style for style in plan.values() if style not in (BY_OUTPUT, BY_INPUT, PACKED, WHOLE)), None)
    if other is not None:
        raise ModelError(f"{folder}: layers of {kind} are divided by {other}, which is not done here", hint=hint)
    styles = (BY_OUTPUT, BY_INPUT, PACKED)
    by_output, by_input, packed = (tuple(name for name, way in plan.items() if way == style) for style in styles)
    return ShardPlan(by_output, by_input, packed, whole)


class ShardedWeights(CheckpointWeights):
    """The tensors of one rank: of those that are divided only its part is read."""

    def __init__(self, files: "Mapping[Path, str]", dtype: str, plan: ShardPlan, rank: int, size: int) -> None:
        super().__init__(files, dtype)
        self._plan, self._rank, self._size = plan, rank, size

    def _read(self, opened: Any, name: str) -> "torch.Tensor":
        import torch

        axis = self._plan.axis(name)
        if axis is None:
            tensor: torch.Tensor = opened.get_tensor(name)
            return tensor.new_zeros(tensor.shape) if self._rank and self._plan.adds_once(name) else tensor
        whole, products = opened.get_slice(name), self._plan.products(name)
        length = whole.get_shape()[axis] // products
        each = length // self._size
        starts = [product * length + self._rank * each for product in range(products)]
        parts = [whole[at : at + each] if axis == 0 else whole[:, at : at + each] for at in starts]
        return torch.cat(parts) if products > 1 else parts[0].contiguous()


def open_weights(
    model: "ModelFacts", dtype: str, rank: int, size: int, whole: tuple[str, ...] = ()
) -> tuple[CheckpointWeights, ShardPlan | None]:
    """Return the weights of one of ``size`` ranks, none of which is read, and how they are divided; None of one rank.

    Args:
        model: its files.
        dtype: name of a torch dtype.
        rank: of this process.
        size: the number of ranks.
        whole: parts of the model that are not divided.

    Raises:
        ModelError: there is no way to divide the model.
    """
    if size == 1:
        quantized = () if dtype == "float32" else model.quantized_files
        return CheckpointWeights({**model.weight_files, **dict.fromkeys(quantized, "")}, dtype), None
    plan = read_shard_plan(model.folder, whole)
    return ShardedWeights(model.weight_files, dtype, plan, rank, size), plan


def _among(module: str, patterns: tuple[str, ...]) -> bool:
    return any(re.search(rf"(^|\.){_expression(pattern)}$", module) for pattern in patterns)


def _expression(pattern: str) -> str:
    return r"\d+".join(map(re.escape, pattern.split("*")))


def main(folder: "Path") -> int:
    """Answer ``dividing.check_divides``: whether there is a plan of a model."""
    try:
        read_shard_plan(folder)
    except ModelError as error:
        sys.stdout.write(json.dumps([error.message, error.hint]))
        return 1
    return 0


if __name__ == "__main__":
    from pathlib import Path

    sys.exit(main(Path(sys.argv[1])))
