"""What a run was described with, so that another process can compose the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RunDescription:
    """The words and variables of a run; it can be pickled, and is not to be shown: a variable may be an API key."""

    words: tuple[str, ...]
    """Overrides, as they were typed."""
    config_dir: str | None = None
    """The user's own folder of options, as it was named on the command line."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables that say something of a run: those of a row, and all that begin as ours do."""
