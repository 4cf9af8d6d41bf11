"""Names: short forms of keys, names of the release before, and those that belong to a model's path."""

from sendnn_pipeline.config.draft import Draft, Layer

# What users may write for a key on the command line and in SENDNN_PIPELINE__ variables: ``known=NAME``.
SHORT_FORMS = {"known": "known.name"}
# Keys that were renamed: they are read for one release, with a warning.
RENAMED = {
    "process.streams": "process.concurrent_steps",
    "process.job_seconds": "sweep.job_timeout_seconds",
    "serve.fresh": "serve.overwrite",
    "workload.least": "workload.min_tokens",
    "workload.most": "workload.max_tokens",
}

# Keys that an option sets for the path in its own file, and for no other.
OF_PATH = ("model.served_name", "model.sha256", "model.revision", "model.source")


def expand_alias(override: str) -> str:
    """Return ``key=value`` with the key in full."""
    key, equals, value = override.partition("=")
    return f"{SHORT_FORMS.get(key, key)}{equals}{value}"


def settle_renamed(draft: Draft) -> None:
    """Take the value of an old name for the new one, unless that is set by the same layer or a higher one."""
    for old, new in RENAMED.items():
        if old not in draft or draft[old] is None:
            continue
        if new not in draft or draft.rank(new) >= draft.rank(old):
            draft.note(f"{old} (set by {draft.where(old)}) is the old name of {new} and is ignored")
            continue
        draft.note(f"{old} (set by {draft.where(old)}) is now called {new}; the old name goes with the next release")
        draft.put(new, draft[old], draft.layer(old), draft.where(old))


def settle_path(draft: Draft) -> None:
    """Drop what an option says of its own model where another layer names the path."""
    path = draft.origins.get("model.path", ())
    for key in OF_PATH:
        origins = draft.origins.get(key, ())
        if not path or not origins or origins[0].names_key:
            continue
        own = next((origin.value for origin in path if origin.option == origins[0].option), None)
        if own != draft["model.path"]:
            draft.put(key, origins[-1].value, Layer.CHOSEN, f"{origins[0].where} is for its own path")
