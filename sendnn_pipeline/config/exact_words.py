"""Overrides as their keys' types take them: text as the characters typed, a single item as a list of one."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraOverrideVisitor
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.grammar.gen.OverrideLexer import (  # type: ignore[attr-defined]
    CommonTokenStream,
    InputStream,
    OverrideLexer,
)
from hydra.grammar.gen.OverrideParser import OverrideParser

from sendnn_pipeline.config.accepted import without_none
from sendnn_pipeline.config.command_line import Override, expand, plain
from sendnn_pipeline.errors import ConfigError


class _CharactersVisitor(HydraOverrideVisitor):
    """Reads numbers and booleans as the characters that were typed."""

    def visitPrimitive(self, ctx: Any) -> Any:
        value = super().visitPrimitive(ctx)
        return QuotedString(ctx.getText().strip(), Quote.double) if isinstance(value, bool | int | float) else value


def exact_words(overrides: Iterable[Override], types: Mapping[str, Any]) -> tuple[Override, ...]:
    """Return the overrides with values of the keys' types.

    Args:
        overrides: as Hydra's grammar reads them, which makes a number of ``6063e25`` whatever the key takes.
        types: of keys.
    """
    return tuple(_exact(override, types.get(override.key)) for override in overrides)


def _exact(override: Override, kind: Any) -> Override:
    if holds_text(kind):
        override = _as_typed(override)
    value = override.value
    if get_origin(without_none(kind)) is list and isinstance(value, str | int | float) and not override.sweeps:
        override = replace(override, value=[value], exact=f"{override.key}=[{override.word.partition('=')[2]}]")
    return override


def holds_text(kind: Any) -> bool:
    """Return whether a key takes text, a list of text, or a mapping to text."""
    item = without_none(kind)
    if get_origin(item) in (list, dict):
        item = without_none(get_args(item)[-1])
    return item is str


def several_values(override: Override, types: Mapping[str, Any], before: str = "") -> ConfigError:
    """Return the error for a word that sweeps where there is one run.

    Args:
        override: it.
        types: of keys.
        before: what else may be done.
    """
    key, _, value = override.text.partition("=")
    other = f"""quote it: '{key}="{value}"'""" if holds_text(types.get(key)) else f"write '{key}=[{value}]' for a list"
    return ConfigError(f"{override.text} has several values for {key}", hint=f"{before}{other}")


def _as_typed(override: Override) -> Override:
    parsed = _parse(override.word)
    if parsed.is_sweep_override():
        expanded = expand(parsed)
        if expanded == override.expanded:
            return override
        choices = ",".join(text.partition("=")[2] for text in expanded)
        written = choices if len(expanded) > 1 else f"choice({choices})"
        return replace(override, expanded=expanded, exact=f"{override.key}={written}")
    value = plain(parsed.value())
    if value == override.value and type(value) is type(override.value):
        return override
    return replace(override, value=value, exact=f"{override.key}={parsed.get_value_element_as_str()}")


def _parse(word: str) -> HydraOverride:
    """Parse an override that Hydra's own visitor has read without an error."""
    lexer = OverrideLexer(InputStream(word))
    tree = OverrideParser(CommonTokenStream(lexer)).override()  # type: ignore[no-untyped-call]
    parsed: HydraOverride = _CharactersVisitor(create_functions()).visit(tree)
    parsed.input_line = word
    return parsed
