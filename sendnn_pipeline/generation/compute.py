"""The tensors of one step, and what goes wrong in them: a sequence that breaks its step fails alone."""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from sendnn_pipeline.errors import RanksApartError
from sendnn_pipeline.generation.chunks import put_together
from sendnn_pipeline.generation.runner import StepRunner
from sendnn_pipeline.generation.sampling.logprobs import token_logprobs
from sendnn_pipeline.generation.sampling.sampler import Sampled, sample
from sendnn_pipeline.generation.sequence import Sequence
from sendnn_pipeline.generation.steps import Chunk, DecodeStep, PrefillStep, Step


class Failure(NamedTuple):
    """Why a sequence got nothing."""

    message: str
    detail: str = ""
    """For the log alone: a library's own words."""


NOT_FINITE = Failure("gave numbers that are not finite")


@dataclass
class Computed:
    """What a step gave each of its sequences, by the scheduler's ids."""

    sampled: dict[int, Sampled] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)


def compute(runner: StepRunner, step: Step, sequences: Mapping[int, Sequence]) -> Computed:
    """Compute a step, and choose a token for each sequence that gets one."""
    computed = Computed()
    hidden = _prefill(runner, step, sequences, computed) if isinstance(step, PrefillStep) else {}
    if isinstance(step, DecodeStep):
        hidden = _decode(runner, step, computed)
    if hidden:
        _sample(runner, hidden, sequences, computed)
    return computed


def _prefill(
    runner: StepRunner, step: PrefillStep, sequences: Mapping[int, Sequence], computed: Computed
) -> dict[int, torch.Tensor]:
    """Return the hidden state behind the last token of each prompt that ends here."""
    hidden: dict[int, torch.Tensor] = {}
    for together in put_together(step.chunks):
        for chunk, states in _chunks(runner, together, computed):
            if not bool(torch.isfinite(states).all()):
                computed.failed[chunk.request_id] = NOT_FINITE
                continue
            sequence = sequences[chunk.request_id]
            try:
                if sequence.sampling.prompt_logprobs >= 0:
                    _report_prompt(runner, chunk, states, sequence)
            except Exception as error:
                computed.failed[chunk.request_id] = _failure(error)
                continue
            if chunk.is_last:
                hidden[chunk.request_id] = states[-1:]
    return hidden


def _chunks(runner: StepRunner, chunks: Several[Chunk], computed: Computed) -> Iterator[tuple[Chunk, torch.Tensor]]:
    """Yield each chunk with the states of its tokens; where all together fail, each is computed by itself."""
    try:
        states = runner.prefill(chunks)
    except RanksApartError:
        raise
    except Exception as error:
        if len(chunks) == 1:
            computed.failed[chunks[0].request_id] = _failure(error)
            return
        for chunk in chunks:
            yield from _chunks(runner, [chunk], computed)
        return
    yield from zip(chunks, states, strict=True)


def _report_prompt(runner: StepRunner, chunk: Chunk, states: torch.Tensor, sequence: Sequence) -> None:
    following = sequence.scheduled.token_ids[chunk.start + 1 : chunk.end + 1]
    if following:
        rows = runner.logits(states[: len(following)]).rows
        sequence.prompt_logprobs += token_logprobs(rows, following, sequence.sampling.prompt_logprobs)


def _decode(runner: StepRunner, step: DecodeStep, computed: Computed) -> dict[int, torch.Tensor]:
    """Return the hidden state of each row; where all rows together fail, each is computed by itself."""
    try:
        return dict(zip(step.request_ids, torch.split(runner.decode(step), 1), strict=True))
    except RanksApartError:
        raise
    except Exception as error:
        if len(step.request_ids) == 1:
            computed.failed[step.request_ids[0]] = _failure(error)
            return {}
    hidden: dict[int, torch.Tensor] = {}
    for row in range(len(step.request_ids)):
        hidden |= _decode(runner, _only(step, row), computed)
    return hidden


def _only(step: DecodeStep, row: int) -> DecodeStep:
    names = ("request_ids", "token_ids", "positions", "slots", "block_tables", "left_padding")
    return replace(step, **{name: getattr(step, name)[row : row + 1] for name in names})


def _sample(
    runner: StepRunner, hidden: Mapping[int, torch.Tensor], sequences: Mapping[int, Sequence], computed: Computed
) -> None:
    """Choose a token for each; where all together fail, each is tried by itself."""
    try:
        logits = runner.logits(torch.cat(list(hidden.values())))
    except RanksApartError:
        raise
    except Exception as error:
        if len(hidden) == 1:
            computed.failed.update(dict.fromkeys(hidden, _failure(error)))
            return
        for scheduler_id, states in hidden.items():
            _sample(runner, {scheduler_id: states}, sequences, computed)
        return
    for row, scheduler_id in enumerate(hidden):
        if not logits.finite[row]:
            computed.failed[scheduler_id] = NOT_FINITE
            continue
        try:
            computed.sampled[scheduler_id] = sample(logits, row, sequences[scheduler_id])
        except ValueError as error:
            computed.failed[scheduler_id] = Failure(str(error))
        except Exception as error:
            computed.failed[scheduler_id] = _failure(error)


def _failure(error: Exception) -> Failure:
    return Failure("could not be computed", f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0][:200]}")
