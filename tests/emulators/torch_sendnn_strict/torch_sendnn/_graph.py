"""What dynamo hands over, traced by AOTAutograd and called with the rules in the way."""

import torch
import torch._dynamo.config as dynamo
from functorch.compile import make_boxed_func
from torch._functorch.aot_autograd import aot_module_simplified
from torch.fx.experimental import _config as symbols

from torch_sendnn import _decoder
from torch_sendnn._card import card, rule


def sendnn(module, examples, mode=None, options=None):
    rule(not card.without_device, "FLEX_DEVICE=COMPILE is for sendnn_compile_only")
    return _graph(module, examples, options)


def sendnn_compile_only(module, examples, mode=None, options=None):
    rule(card.without_device, "sendnn_compile_only comes with FLEX_DEVICE=COMPILE")
    return _graph(module, examples, options)


def _graph(module, examples, options):
    rule(set(options or {}) <= {"sendnn.dynamic"}, f"options {options}")
    no_grad()
    longest = card.limit("MAX_CONTEXT_LEN")
    for limit in (dynamo.cache_size_limit, dynamo.accumulated_cache_size_limit):
        rule(limit >= max(2 * (longest - 64 + 1), 2.5 * longest), f"dynamo stops at {limit} graphs")
    graph = Graph(module, examples, bool((options or {}).get("sendnn.dynamic")))
    card.collect(graph)
    return graph


def no_grad():
    rule(not torch.is_inference_mode_enabled(), "torch.inference_mode breaks compiling")
    rule(not torch.is_grad_enabled(), "gradients are on: torch.no_grad")


class Graph:
    def __init__(self, module, examples, dynamic):
        self.dynamic = dynamic
        self.names = [node.name for node in module.graph.nodes if node.op == "placeholder"]
        self.own = {
            name
            for name, example in zip(self.names, examples, strict=True)
            if isinstance(example, torch.nn.Parameter) or "L_self_" in name or name.startswith("l_self_")
        }
        self.text = ""

        def compiled(traced, _examples):
            self.text += traced.code
            return make_boxed_func(traced.forward)

        self.run = aot_module_simplified(module, examples, fw_compiler=compiled, inference_compiler=compiled)
        self.text += str(
            [tuple(map(str, one.shape)) if isinstance(one, torch.Tensor) else str(one) for one in examples]
        )

    def __call__(self, *arguments):
        no_grad()
        named = {
            name: argument
            for name, argument in zip(self.names, arguments, strict=True)
            if isinstance(argument, torch.Tensor)
        }
        for name, tensor in named.items():
            rule(tensor.device.type == "cpu" and tensor.numel() and not tensor.requires_grad, f"{name} is odd")
            if tensor.is_floating_point() and (name not in self.own or isinstance(tensor, torch.nn.Parameter)):
                rule(tensor.dtype == torch.float16, f"{name} is {tensor.dtype}")
        asked = {name: tensor for name, tensor in named.items() if name not in self.own}
        if not self.dynamic:
            _static(asked)
            if card.collecting:
                return tuple(uninitialised(one) for one in self.run(*arguments))
            card.deploy(self)
            return tuple(self.run(*arguments))
        rule(
            symbols.backed_size_oblivious == card.collecting, "backed_size_oblivious is on in warmup, and off after it"
        )
        kv = _decoder.check(asked, card)
        if card.collecting:
            return tuple(uninitialised(one) for one in self.run(*arguments))
        card.deploy(self)
        return _decoder.over_the_card_s_cache(self, arguments, kv, card)


def _static(asked):
    for name, tensor in asked.items():
        marks = (getattr(tensor, "_dynamo_static_indices", None) or set()) | dynamic_marks(tensor)
        if card.collecting:
            rule(marks == set(range(tensor.dim())) and not dynamic_marks(tensor), f"{name}: static on every dimension")
        else:
            rule(not marks, f"{name} is marked: static graphs are marked in warmup only")
        rows, tokens = tensor.shape[0], tensor.shape[-1]
        rule(tokens % 64 == 0 and tokens <= card.limit("MAX_CONTEXT_LEN"), f"{name} has {tokens} tokens")
        rule(rows <= card.limit("MAX_BATCH_SIZE"), f"{name} has {rows} rows")


def dynamic_marks(tensor):
    return set(getattr(tensor, "_dynamo_dynamic_indices", None) or ())


def uninitialised(output):
    if not isinstance(output, torch.Tensor):
        return output
    filled = float("nan") if output.is_floating_point() else torch.iinfo(torch.int32).max
    return torch.full_like(output, filled)
