"""How text-embeddings-inference writes what is read of a text."""

from typing import Literal

from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.truncation import Side, Truncation
from sendnn_pipeline.pooling.config import pooling_config

Direction = Literal["Left", "Right", "left", "right"]


def truncates(front: Frontend, truncate: bool | None) -> bool:
    """Return whether long texts are cut: as the request says, else as ``engine.auto_truncate`` does."""
    return pooling_config(front.run.config)[0].auto_truncate if truncate is None else truncate


def tei_truncation(front: Frontend, truncate: bool | None, direction: Direction) -> Truncation:
    """Return how much of the texts is read."""
    return Truncation(whole=front.max_input_tokens if truncates(front, truncate) else None, side=side_of(direction))


def side_of(direction: Direction) -> Side:
    """Return the side that is cut."""
    return "left" if direction.lower() == "left" else "right"
