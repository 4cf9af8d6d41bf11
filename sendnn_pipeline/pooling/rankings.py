"""Which benches are of rankings."""

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.pooling.plan import pooling_plan


def benches_rankings(run: Run) -> bool:
    """Return whether requests of a bench are rankings: as asked, else where the model is a cross-encoder.

    Raises:
        ConfigError: they are asked of a classifier that gives several labels.
    """
    plan, task = pooling_plan(run), run.config.workload.task
    labels = plan.facts.labels if plan.classifies else ()
    if task == "rerank" and len(labels) > 1:
        raise ConfigError(
            f"workload.task=rerank, and {run.served_name} gives {len(labels)} labels, not one score",
            hint="use workload.task=texts",
        )
    return task == "rerank" or (task == "auto" and len(labels) == 1)
