"""One graph: garbage while it is traced, what PyTorch computes once it is deployed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx.experimental import _config as shapes_config

from torch_sendnn.device import device
from torch_sendnn.errors import DeviceError
from torch_sendnn.inputs import check_tensors, find_inputs
from torch_sendnn.rules import check_decoder, check_static


class DeviceGraph:
    """What dynamo gets for a graph; it is called with the graph's inputs."""

    def __init__(self, module: torch.fx.GraphModule, examples: Sequence[Any], *, dynamic: bool, runs: bool) -> None:
        self.module, self.dynamic, self.runs, self.compiled = module, dynamic, runs, False
        self.inputs = find_inputs(module, examples)
        if self.inputs.paged != dynamic:
            raise DeviceError("sendnn.dynamic is for decoders, whose graphs attend to a paged KV cache")
        self.text = module.code + str([getattr(example, "shape", example) for example in examples])
        self.resident: dict[int, torch.Tensor] = {}
        """Weights and cache, by where they are on the host."""

    def __call__(self, *arguments: Any) -> tuple[Any, ...]:
        """Run it."""
        if torch.is_inference_mode_enabled():
            raise DeviceError("inference mode breaks compiling; torch.no_grad is what the device takes")
        if torch.is_grad_enabled():
            raise DeviceError("gradients are on")
        check_tensors(self.inputs, arguments)
        if self.dynamic:
            check_decoder(self.inputs, arguments, device.environment)
        else:
            check_static(self.inputs, arguments, device.environment, warming=device.warming)
        kv = [arguments[index] for index in self.inputs.kv]
        device.kv.check_blocks(kv)
        if self.dynamic and shapes_config.backed_size_oblivious != device.warming:
            raise DeviceError("backed_size_oblivious is for warmup, and only for it")
        if device.warming:
            device.check_same("trace", self)
            resident = [arguments[index] for index in (*self.inputs.model, *self.inputs.kv)]
            self.resident = {tensor.data_ptr(): tensor for tensor in resident}
            return tuple(garbage(output) for output in self._compute(arguments))
        device.before_run(self)
        if not self.runs:
            raise DeviceError("sendnn_compile_only compiles, and runs nothing")
        real = device.kv.read(kv)
        replaced = list(arguments)
        for index, tensor in zip(self.inputs.kv, real, strict=True):
            replaced[index] = tensor
        outputs = self._compute(replaced)
        blocks = {(tensor.shape, tensor.dtype) for tensor in real}
        return tuple(
            device.kv.write(output)
            if isinstance(output, torch.Tensor) and (output.shape, output.dtype) in blocks
            else output
            for output in outputs
        )

    def _compute(self, arguments: Sequence[Any]) -> Sequence[Any]:
        outputs = self.module(*arguments)
        return outputs if isinstance(outputs, tuple | list) else (outputs,)


def garbage(output: Any) -> Any:
    """Return what memory happened to hold, of the right shape."""
    if not isinstance(output, torch.Tensor):
        return output
    if output.dtype.is_floating_point:
        return torch.full_like(output, float("nan"))
    return torch.ones_like(output) if output.dtype == torch.bool else torch.full_like(output, 2**40 + 7)
