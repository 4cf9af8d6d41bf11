"""What a Spyre card refuses, said before anything is compiled: architectures, memory, stages. No torch."""

from typing import TYPE_CHECKING

from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.config.schema import StageName

if TYPE_CHECKING:
    from sendnn_pipeline.engines.run import Run

# By config.json's model_type: what has run on cards, as the plugin for vLLM says of itself.
ENCODERS = ("bert", "roberta", "xlm-roberta", "qwen3")
DECODERS = (
    *("llama", "granite", "granitemoehybrid", "granite_swa", "qwen3", "gpt_bigcode"),
    *("llava_next", "mistral3", "pixtral"),
)
BLOCK = 64
GIB = 2**30


def find_problems(run: "Run") -> list[str]:
    """Return a line for each reason for which the device would not run what is planned; none for other backends."""
    options = run.config.backend
    if not isinstance(options, SendnnConfig):
        return []
    found = (_stages(run, options), _architecture(run, options), _memory(run, options))
    return [problem for problem in found if problem]


def _stages(run: "Run", options: SendnnConfig) -> str:
    if options.name == "sendnn" or StageName.serve not in run.config.pipeline.stages:
        return ""
    return f"backend={options.name} compiles for another machine and serves nothing; add pipeline=precompile"


def _architecture(run: "Run", options: SendnnConfig) -> str:
    kind, known = run.model.model_type, DECODERS if run.plan.bounds.chunk else ENCODERS
    if options.any_architecture or kind in known:
        return ""
    return (
        f"models of the type {kind} are not known to run on Spyre, and those of {', '.join(known)} are; "
        "backend.any_architecture=true compiles it all the same"
    )


def _memory(run: "Run", options: SendnnConfig) -> str:
    """Compare what a card has to hold with what it can; all but the weights grows with the longest sequence."""
    sizes, card = run.plan.memory_bytes, options.card_memory_gib * GIB
    needed = sum(sizes.values())
    if needed <= card:
        return ""
    weights, length = sizes.get("weights", 0), run.plan.bounds.max_length
    parts = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in sizes.items())
    says = f"a card of {options.card_memory_gib:g} GiB (backend.card_memory_gib) does not hold {parts}"
    fitting = int(length * max(0.0, card - weights) / max(1, needed - weights)) // BLOCK * BLOCK
    if fitting < BLOCK:
        return f"{says}; beside the weights, not even {BLOCK} tokens of this batch fit"
    return f"{says}; of this batch, sequences of up to {fitting} tokens fit"
