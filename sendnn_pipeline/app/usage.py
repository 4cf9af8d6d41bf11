"""Keys that a run does not use: setting one is never silent."""

from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.app.target import create_target
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schemas import keys_of
from sendnn_pipeline.engines.base import Engine

# Groups, and single keys, that only some engines or targets use, and what will use those that none here does.
OWNERS = {
    "engine.": "another engine",
    "warmup.": "another engine",
    "scheduler.": "the generation engine",
    "cache.": "the generation engine",
    "artifacts.require_precompiled_decoders": "generation; artifacts.require=true is for every engine",
    "multimodal.": "vision-language models",
    "process.concurrent_steps": "another engine",
    "workload.": "serve=bench",
    "sweep.": "a sweep",
}
# Of groups above, keys that every run uses.
COMMON = ("engine.name", "warmup.remeasure")


def note_unused_keys(context: AppContext, draft: Draft, engine: Engine) -> None:
    """Note every key that the user named and neither the engine nor the target uses."""
    schema = context.schemas.schemas.get(("engine", engine.name))
    own = set(keys_of(schema, "engine")) if schema else set()
    for key in draft.named_keys():
        owner = unused_by(key, (*engine.keys, *target_keys(context, draft)))
        if not owner and key.startswith("engine.") and key not in own | {"engine.name"}:
            owner = "another engine"
        if owner:
            draft.note_unused(key, f"it belongs to {owner}")


def target_keys(context: AppContext, draft: Draft) -> tuple[str, ...]:
    """Return the keys that the run's target uses beside its own group."""
    target = create_target(context.plugins, draft["serve.target"], where=draft.where("serve.target"))
    return tuple(getattr(target, "keys", ()))


def unused_by(key: str, used: tuple[str, ...]) -> str:
    """Return whom a key belongs to that a run does not use; empty where it does.

    Args:
        key: dotted.
        used: keys of engine and target; one that ends in a dot stands for its group.
    """
    if key in COMMON or any(key == own or (own.endswith(".") and key.startswith(own)) for own in used):
        return ""
    return next((owner for prefix, owner in OWNERS.items() if key.startswith(prefix)), "")
