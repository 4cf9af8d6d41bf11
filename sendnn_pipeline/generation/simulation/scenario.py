"""Scenarios: requests that arrive at a scheduler, as a JSON file describes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sendnn_pipeline.config.numbers import Positive
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation.rules import Rules, sendnn_rules

TokenId = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Milliseconds = Annotated[float, Meta(ge=0)]


class ScenarioConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and policies, under the names that the format has for them."""

    chunk_size: Annotated[int, Meta(ge=64, multiple_of=64)]
    max_num_seqs: Positive
    max_model_len: Positive
    num_blocks: Annotated[int, Meta(ge=2, le=2**20)]
    interleave: bool
    pausing: bool
    long_out_prio: bool
    prefix_caching: bool
    max_batch_tkv: Positive | None

    def rules(self) -> Rules:
        """Return the same as rules of sendnn."""
        return sendnn_rules(
            chunk_size=self.chunk_size,
            max_num_seqs=self.max_num_seqs,
            max_model_len=self.max_model_len,
            num_blocks=self.num_blocks,
            interleave=self.interleave,
            pausing=self.pausing,
            long_output_priority=self.long_out_prio,
            prefix_caching=self.prefix_caching,
            max_batch_tkv=self.max_batch_tkv,
        )


class ScenarioRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that joins the queue before a step."""

    id: str
    arrival_step: Annotated[int, Meta(ge=0)]
    prompt: Annotated[list[TokenId], Meta(min_length=1)]
    max_tokens: Positive
    """Tokens that it generates."""


class ScenarioCosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step takes."""

    prefill_ms: Milliseconds
    decode_ms: Milliseconds


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is played. Steps and events that the file has already are not read."""

    name: str
    config: ScenarioConfig
    requests: list[ScenarioRequest]
    costs: ScenarioCosts | None = None
    steps: Any = None
    events: Any = None
    prediction: Any = None


@dataclass(frozen=True)
class Entry:
    """A scenario, beside what the file has of it."""

    scenario: Scenario
    raw: dict[str, Any]


def read_scenarios(file: Path) -> list[Entry]:
    """Read a list of scenarios.

    Raises:
        ConfigError: it cannot be read, or one of them is wrong; the message names it and its key.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint="name a file of scenarios") from None
    try:
        raws = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}", hint="write a list of scenarios") from None
    if not isinstance(raws, list):
        raise ConfigError(f"{file} holds no list", hint="write a list of scenarios, [{...}, ...]")
    return [Entry(_read(file, number, raw), raw) for number, raw in enumerate(raws, start=1)]


def _read(file: Path, number: int, raw: Any) -> Scenario:
    title = f"{file}: scenario {number}"
    if isinstance(raw, dict) and isinstance(raw.get("name"), str):
        title += f" ({raw['name']})"
    try:
        scenario = msgspec.convert(raw, Scenario)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        key = path.rstrip("`").lstrip(".")
        raise ConfigError(f"{title}: {key + ': ' if key else ''}{message}", hint=_allowed(message, key)) from None
    problem = _problem(scenario)
    if problem:
        raise ConfigError(f"{title}: {problem}")
    return scenario


def _problem(scenario: Scenario) -> str:
    """Return what is wrong with values that are fine each by itself; empty where nothing is."""
    rules = scenario.config.rules()
    seen: set[str] = set()
    for index, request in enumerate(scenario.requests):
        if request.id in seen:
            return f"requests[{index}].id: {request.id!r} is the id of an earlier request; each needs its own"
        seen.add(request.id)
        never = rules.why_never(len(request.prompt), request.max_tokens)
        if never:
            return f"requests[{index}].max_tokens: {never}"
    return ""


def _allowed(message: str, key: str) -> str:
    """Return what an object may have, where it lacks a key or has one too many."""
    if "unknown field" not in message and "missing required field" not in message:
        return ""
    parts: dict[str, type[msgspec.Struct]] = {
        "config": ScenarioConfig,
        "requests": ScenarioRequest,
        "costs": ScenarioCosts,
    }
    shape = next((part for name, part in parts.items() if key.startswith(name)), Scenario)
    return f"allowed: {', '.join(field.name for field in msgspec.structs.fields(shape))}"
