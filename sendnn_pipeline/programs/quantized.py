"""Weights as a quantized file has them, beside the same ones in bfloat16. No torch.

A weight ``[outputs, inputs]`` has, for every 32 inputs of an output, a scale and mostly an offset: each of its numbers
times the scale, plus the offset, is what the file says, before anything is rounded.
"""

FILE = "quantized/model.safetensors"
"""In a model's folder. Not beside its weights: others read all that lies there as such."""
GROUP_SIZE = 32
"""Inputs that have a scale in common."""
Q4, Q8, SCALES, OFFSETS = "q4", "q8", "scales", "offsets"
"""What a weight is read from. Bytes of ``q4`` are two numbers, the first 16 of a group in their lower four bits and the
others in their upper ones."""
DTYPES = {Q4: "uint8", Q8: "int8", SCALES: "float32", OFFSETS: "float32"}
ENDINGS = tuple(f".{kind}" for kind in DTYPES)
"""What follows the name of the weight in the name of a tensor."""


def shape_of(kind: str, outputs: int, inputs: int) -> tuple[int, ...]:
    """Return the shape of a part of a weight ``[outputs, inputs]``."""
    groups = inputs // GROUP_SIZE
    shapes = {
        Q4: (outputs, groups, GROUP_SIZE // 2),
        Q8: (outputs, groups, GROUP_SIZE),
        SCALES: (outputs, groups),
        # The other way round: of them a product is made for many outputs at once.
        OFFSETS: (groups, outputs),
    }
    return shapes[kind]
