"""Number formats by name."""

from enum import StrEnum


class Dtype(StrEnum):
    """Of weights and activations."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
