"""The keys of the pooling engine."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.config.schema import EngineConfig, RunConfig, WarmupConfig
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.pooling.shapes import AUTO, parse_shapes, shape_of, zip_shapes

SHAPES, PROMPT_LENS, BATCH_SIZES = "warmup.shapes", "warmup.prompt_lens", "warmup.batch_sizes"
# The registry's values, for the list that nobody sets when only the other is set.
REGISTRY_PROMPT_LENS = [64]
REGISTRY_BATCH_SIZES = [1]


class Task(StrEnum):
    """What is asked of the model."""

    auto = "auto"
    embed = "embed"
    classify = "classify"


# How hidden states become one vector.
POOLINGS = ("mean", "cls", "last", "max", "mean_sqrt_len", "weightedmean")


@dataclass(frozen=True, kw_only=True)
class PoolingConfig(EngineConfig):
    """Vectors, scores of pairs, and labels."""

    task: Task = Task.auto
    """`embed` (a vector a text) or `classify` (labels, and scores of pairs); `auto` chooses by the model."""
    pooling: str = AUTO
    """`mean`, `cls`, `last`, `max`, `mean_sqrt_len`, `weightedmean`, or several joined by `+`; `auto` follows the
    model's sentence-transformers files."""
    normalize: bool | None = None
    """Whether vectors are scaled to length one; null follows the model's files."""
    prompt_name: str | None = None
    """Which of the model's prompts goes before texts whose request names none; null is the default of the model's
    files, empty text is none."""
    auto_truncate: bool = True
    """Whether text-embeddings-inference's routes cut long texts where a request does not say `truncate`, as that server
    does by default; other routes refuse them."""


@dataclass(frozen=True, kw_only=True)
class ShapeWarmup(WarmupConfig):
    """Which shapes are compiled. The first three keys are one value: the highest layer that sets any wins."""

    shapes: Any = AUTO
    """`auto`, or a list of length x batch such as `[64x8,128x4]`."""
    prompt_lens: list[int] | None = None
    """Lengths in tokens, zipped with `batch_sizes`; a single one goes with every batch size."""
    batch_sizes: list[int] | None = None
    """Batch sizes, zipped with `prompt_lens`; a single one goes with every length."""
    trace: str | None = None
    """Lengths that `auto` chooses for: a number a line, or JSON lines such as the perf log's; null is mixed prose."""
    budget: Annotated[int, Meta(ge=1)] = 8
    """Most Programs that `auto` chooses where a backend compiles fixed sizes only."""

    @staticmethod
    def settle(draft: Draft) -> None:
        """Make one value of the three forms in which shapes are written.

        Raises:
            ConfigError: one layer sets shapes both ways, or they are not of the form.
        """
        ranks = {key: draft.rank(key) for key in (SHAPES, *PAIR) if draft[key] is not None}
        pair = max((ranks[key] for key in PAIR if key in ranks), default=UNSET)
        if pair == UNSET or ranks.get(SHAPES, UNSET) > pair:
            parse_shapes(draft[SHAPES] or AUTO, draft.where(SHAPES))
            return
        key = next(key for key in PAIR if ranks.get(key) == pair)
        if ranks.get(SHAPES) == pair:
            raise ConfigError(
                f"{SHAPES} and {key} are both set by {draft.where(key)} and {draft.where(SHAPES)}",
                hint="they are one value; set it one way",
            )
        where = draft.where(key)
        lens = draft[PROMPT_LENS] or REGISTRY_PROMPT_LENS
        programs = zip_shapes(lens, draft[BATCH_SIZES] or REGISTRY_BATCH_SIZES, where)
        draft.put(SHAPES, [shape_of(program) for program in programs], pair[0], f"{where}, zipped")


PAIR = (PROMPT_LENS, BATCH_SIZES)
UNSET = (Layer.DEFAULT, True)


def pooling_config(config: RunConfig) -> tuple[PoolingConfig, ShapeWarmup]:
    """Return the engine's own parts of a run's configuration."""
    assert isinstance(config.engine, PoolingConfig) and isinstance(config.warmup, ShapeWarmup)
    return config.engine, config.warmup
