"""The entries that come nearest to what a run asks for, field by field: what is printed where nothing matches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sendnn_pipeline.programs.key import ArtifactKey

MOST = 3
DIFFERS = "≠ "
MISSING = "-"
# Of one line of a cell; longer texts, such as a CPU's vector extensions, are compared word by word.
WIDTH = 44


@dataclass(frozen=True)
class Candidate:
    """Something that was compiled, by the same names as what is asked for."""

    name: str
    fields: Mapping[str, str]

    def num_different(self, wanted: Mapping[str, str]) -> int:
        """Return how many fields are other than those that are asked for."""
        return sum(self.fields.get(name) != value for name, value in wanted.items())


def candidate(name: str, key: ArtifactKey) -> Candidate:
    """Return an artifact as one."""
    return Candidate(name, {field: str(value) for field, value in key.fields})


def nearest_table(wanted: Mapping[str, str], candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """Return the lines of a table of the nearest candidates; none where there are no candidates.

    Args:
        wanted: fields of what is asked for, in the order of their rows.
        candidates: what there is.
    """
    nearest = sorted(candidates, key=lambda one: one.num_different(wanted))[:MOST]
    if not nearest:
        return ()
    rows = [["field", "this run", *(one.name for one in nearest)]]
    for name, value in wanted.items():
        found = [_compared(value, one.fields.get(name, MISSING)) for one in nearest]
        rows.append([name, _shortened(value, [one.fields.get(name, MISSING) for one in nearest]), *found])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    return (f"the nearest of what there is, {DIFFERS.strip()} where it differs:", *lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _compared(wanted: str, found: str) -> str:
    if found == wanted:
        return "the same" if len(found) > WIDTH else found
    return DIFFERS + _shortened(found, [wanted])


def _shortened(text: str, others: Sequence[str]) -> str:
    """Return a text, a long one as those of its words that some other one lacks."""
    if len(text) <= WIDTH:
        return text
    only = [word for word in text.split() if any(word not in other.split() for other in others)]
    words = f"… {' '.join(only)}" if only else text
    return words if len(words) <= WIDTH else f"{words[: WIDTH - 1]}…"
