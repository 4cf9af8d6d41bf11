"""Which keys a run does not use, so that setting one is never silent."""

UNUSED_BY_POOLING = {
    "scheduler.": "generation",
    "cache.": "generation",
    "artifacts.require_precompiled_decoders": "generation",
    "multimodal.": "vision-language models",
    "parallel.": "several ranks",
    "known.": "known configurations, which come with a later version",
}
USED_BY_POOLING = ("scheduler.max_num_batched_tokens",)


def unused_by(engine: str, key: str, target: str = "") -> str:
    """Return what ``key`` belongs to when a run of ``engine`` offered at ``target`` does not use it, else nothing."""
    if key.startswith("workload.") and target != "bench":
        return "serve=bench"
    if engine not in ("pooling", "auto"):
        return ""
    if key in USED_BY_POOLING:
        return ""
    return next((owner for prefix, owner in UNUSED_BY_POOLING.items() if key.startswith(prefix)), "")
