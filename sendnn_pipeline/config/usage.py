"""Which keys a run does not use, so that setting one is never silent."""

UNUSED_BY_POOLING = {
    "scheduler.": "generation",
    "cache.": "generation",
    "artifacts.require_precompiled_decoders": "generation",
    "multimodal.": "vision-language models",
    "parallel.": "several ranks",
}
USED_BY_POOLING = ("scheduler.max_num_batched_tokens",)
OF_EMBEDDINGS = ("engine.pooling", "engine.normalize", "model.matryoshka")


def unused_by(key: str, *, engine: str, task: str, target: str) -> str:
    """Return what ``key`` belongs to when a run does not use it, else nothing.

    Args:
        key: the key.
        engine: of the run; ``auto`` where it is not known yet.
        task: of the engine.
        target: where the run is offered.
    """
    if key.startswith("workload.") and target != "bench":
        return "serve=bench"
    if key in OF_EMBEDDINGS and task == "classify":
        return "embeddings"
    if engine not in ("pooling", "auto") or key in USED_BY_POOLING:
        return ""
    return next((owner for prefix, owner in UNUSED_BY_POOLING.items() if key.startswith(prefix)), "")
