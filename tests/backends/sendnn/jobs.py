"""What ranks do in test_spyre_ranks.py."""

from dataclasses import replace

from sendnn_pipeline.pipeline.rank import run_rank


def run_in_another_order(port, run, world):
    """Run the stages, in the second rank with its Programs in another order."""
    steps = dict(reversed(run.plan.steps.items())) if world.rank else run.plan.steps
    run_rank(port, replace(run, plan=replace(run.plan, steps=steps)), world)
