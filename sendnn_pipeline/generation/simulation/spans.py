"""What every request of a played scenario did in each step: the bars of a timeline."""

from dataclasses import dataclass
from enum import StrEnum

from sendnn_pipeline.generation.simulation.play import Played
from sendnn_pipeline.generation.steps import PrefillStep


class Doing(StrEnum):
    """What a request did in a step."""

    WAITING = "waits"
    PREFILL = "prefill"
    DECODE = "decode"
    INTERRUPTED = "others' turn"
    """It is admitted and not paused, and the step computed others."""
    PAUSED = "paused"


@dataclass(frozen=True)
class Span:
    """Steps from ``begin`` up to ``end`` in which a request did one thing; every chunk of a prompt is a span."""

    index: int
    """Of the request in the scenario."""
    doing: Doing
    begin: int
    end: int


def spans_of(played: Played) -> list[Span]:
    """Return what all requests did from arrival to end, in order of the ends."""
    requests = played.scenario.requests
    spans: list[Span] = []
    last: dict[int, Span] = {}
    ended: set[str] = set()
    for number, (step, after) in enumerate(zip(played.steps, played.rows[1:], strict=True)):
        computed = set(step.request_ids) if step is not None else set()
        paused, waiting = set(after.paused), set(after.waiting)
        for index, request in enumerate(requests):
            if request.arrival_step > number or request.id in ended:
                continue
            if index in computed:
                doing = Doing.PREFILL if isinstance(step, PrefillStep) else Doing.DECODE
            elif request.id in paused:
                doing = Doing.PAUSED
            else:
                doing = Doing.WAITING if request.id in waiting else Doing.INTERRUPTED
            before = last.get(index)
            if before is None or before.doing is not doing or doing is Doing.PREFILL:
                if before is not None:
                    spans.append(before)
                last[index] = Span(index, doing, number, number + 1)
            else:
                last[index] = Span(index, doing, before.begin, number + 1)
        ended.update(after.finished)
    return spans + list(last.values())
