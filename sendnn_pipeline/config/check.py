"""Constraints between keys that belong to nobody, checked before anything is loaded."""

from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schema import StageName
from sendnn_pipeline.errors import ConfigError

STAGES = tuple(StageName)


def check_draft(draft: Draft) -> None:
    """Refuse what is wrong for any model.

    Raises:
        ConfigError: the first problem, with where its value was set and what to do.
    """
    config = draft.config()
    stages = tuple(config.pipeline.stages)
    if not stages or stages != STAGES[: len(stages)]:
        raise ConfigError(
            f"pipeline.stages=[{','.join(stages)}] cannot run",
            where=draft.where("pipeline.stages"),
            hint=f"name the first of {', '.join(STAGES)}, in order",
        )
    for key in ("artifacts.require", "artifacts.require_precompiled_decoders"):
        if draft[key] and not config.artifacts.enabled:
            raise ConfigError(f"{key}=true and artifacts.enabled=false exclude each other", where=draft.where(key))
    if config.device != "cpu":
        raise ConfigError(
            f"device={config.device} is not supported by this version", where=draft.where("device"), hint="use cpu"
        )
