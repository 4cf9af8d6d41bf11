"""What is told of a step that is done. Decides nothing."""

from sendnn_pipeline.generation.state import State
from sendnn_pipeline.generation.steps import PrefillStep, Step
from sendnn_pipeline.messages import StepDone
from sendnn_pipeline.programs.program import Program


def step_done(
    step: Step, program: Program, times: tuple[float, float], state: State, measures: dict[str, float]
) -> StepDone:
    """Return the message of a step.

    Args:
        step: that is done.
        program: that computed a layer of it.
        times: monotonic seconds at which it began and ended.
        state: of the scheduler.
        measures: of the engine, for ``/metrics``.
    """
    if isinstance(step, PrefillStep):
        tokens, rows, most = sum(len(chunk.token_ids) for chunk in step.chunks), len(step.chunks), len(step.chunks)
    else:
        tokens = rows = len(step.request_ids)
        most = state.rules.max_num_seqs
    not_prompt = 0 if isinstance(step, PrefillStep) else tokens
    return StepDone(program.name, rows, most, tokens, tokens, *times, len(state.waiting), 0, not_prompt, measures)
