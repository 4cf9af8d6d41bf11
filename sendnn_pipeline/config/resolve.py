"""From layers to a run: read the model's facts, replace every ``auto``, check, freeze."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sendnn_pipeline.config.auto_shapes import Choice
from sendnn_pipeline.config.check import check
from sendnn_pipeline.config.cpu import computes_bfloat16, count_cpus, read_cpu_facts, threads_per_worker
from sendnn_pipeline.config.layers import Layered, Origin, Provenance
from sendnn_pipeline.config.model_facts import ModelFacts
from sendnn_pipeline.config.schema import EngineConfig, ModelConfig, ProcessConfig, RunConfig, SchedulerConfig
from sendnn_pipeline.config.shapes import AUTO, Shape, parse_shapes, zip_shapes
from sendnn_pipeline.config.usage import unused_by
from sendnn_pipeline.errors import ConfigError

SHAPE_KEYS = ("warmup.shapes", "warmup.prompt_lens", "warmup.batch_sizes")
# The registry's values, for the list that goes unsaid when only the other is set.
REGISTRY_PROMPT_LENS = [64]
REGISTRY_BATCH_SIZES = [1]
SAID_BY_USER = ("profile", "env", "command line")
CLASSIFY = "classify"
STEP_TOKENS_OF_THREAD = 512
_RANK_OF_LAYER = {"default": 0, "conf": 1, "known": 2, "profile": 3, "env": 4, "command line": 5}


type_choose = Callable[[RunConfig], Choice]


@dataclass(frozen=True)
class Run:
    """One run, resolved: no ``auto`` is left, nothing below reads the environment or Hydra."""

    config: RunConfig
    model: ModelFacts
    shapes: tuple[Shape, ...]
    cache_dir: Path
    served_name: str
    notices: tuple[str, ...] = ()

    @property
    def classifies(self) -> bool:
        """Whether the engine gives logits, of texts or of pairs that it reads at once, rather than vectors."""
        return self.config.engine.task == CLASSIFY

    @property
    def dimensions(self) -> int:
        """Numbers that the engine gives for each text: of a vector, or one for each label."""
        return len(self.model.labels) if self.classifies else self.model.hidden_size

    @property
    def token_types(self) -> bool:
        """Whether Programs take token types beside ids and mask."""
        return self.classifies and self.model.token_types

    @property
    def streams(self) -> int:
        """Steps that run at once."""
        return self.config.process.streams or 1

    @property
    def step_tokens(self) -> int:
        """Most tokens of a step whose batch is a range."""
        return self.config.scheduler.max_num_batched_tokens or STEP_TOKENS_OF_THREAD


@dataclass(frozen=True)
class Resolved:
    """A run and, for every key, where its value came from."""

    run: Run
    provenance: Provenance


def cache_dir_of(config: RunConfig, environ: dict[str, str]) -> Path:
    """Return the folder of fetched models and compiler caches."""
    if config.cache_dir:
        return Path(config.cache_dir).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sendnn_pipeline"


def resolve(
    layered: Layered,
    facts: ModelFacts,
    cache_dir: Path,
    choose: type_choose,
    *,
    can_stream: bool,
    dtypes: Sequence[str],
) -> Resolved:
    """Replace every ``auto`` with a value and a reason, then check the whole.

    Args:
        layered: the composed words.
        facts: the model's.
        cache_dir: where caches are.
        choose: what ``warmup=auto`` stands for, given everything but the shapes.
        can_stream: whether the backend runs several steps at once.
        dtypes: that the backend computes, the one to prefer first where this CPU does not compute bfloat16.

    Raises:
        ConfigError: a value does not fit the model or the others; the message names the key and where it was set.
    """
    given, provenance = layered.composed.run, layered.provenance
    engine, provenance = _engine(given.engine, facts, provenance)
    model, provenance = _model(given.model, facts, dtypes, provenance)
    process, scheduler, provenance = _steps(given, can_stream, provenance)
    config = replace(given, engine=engine, model=model, process=process, scheduler=scheduler)
    shapes, provenance = _shapes(config, provenance, choose)
    of_auto = _unused_of_auto(
        provenance, chosen=provenance.origins["warmup.shapes"][0].layer == "chosen", shapes=shapes
    )
    config = replace(config, warmup=replace(given.warmup, shapes=[str(shape) for shape in shapes]))
    check(config, facts, shapes, provenance)
    served = model.served_name or model.path.rstrip("/").rsplit("/", 1)[-1].split("==")[0]
    run = Run(
        config,
        facts,
        shapes,
        cache_dir,
        served,
        (*layered.notices, *_unused(config, provenance), *of_auto, *_notices(config, facts, shapes)),
    )
    return Resolved(run, provenance)


def _engine(given: EngineConfig, facts: ModelFacts, provenance: Provenance) -> tuple[EngineConfig, Provenance]:
    name = given.name
    if name == AUTO:
        if facts.architecture.endswith("ForCausalLM") and not facts.has_pooling_files:
            raise ConfigError(
                f"{facts.architecture} is a generating model, and the generation engine is not part of this version",
                hint="engine=pooling serves embeddings from it",
            )
        name = "pooling"
        gives = "labels" if facts.labels else "embeddings"
        provenance = provenance.put("engine.name", Origin("chosen", f"{facts.architecture} gives {gives}", name))
    elif name != "pooling":
        raise ConfigError(f"engine.name={name} is no engine", where=provenance.where("engine.name"), hint="use pooling")
    task = given.task
    if task == AUTO:
        task = CLASSIFY if facts.labels else "embed"
        provenance = provenance.put("engine.task", Origin("model", f"{facts.architecture} in config.json", task))
    elif task == CLASSIFY and not facts.labels:
        raise ConfigError(
            f"engine.task=classify, and {facts.architecture} has no classification head",
            where=provenance.where("engine.task"),
            hint="use engine.task=embed",
        )
    if task == CLASSIFY:
        return replace(given, name=name, task=task), provenance
    source = "the model's modules.json" if facts.has_pooling_files else "no modules.json: sentence-transformers' rule"
    pooling, normalize = given.pooling, given.normalize
    if pooling == AUTO:
        pooling = facts.pooling
        provenance = provenance.put("engine.pooling", Origin("model", source, pooling))
    if normalize is None:
        normalize = facts.normalize
        provenance = provenance.put("engine.normalize", Origin("model", source, normalize))
    return replace(given, name=name, task=task, pooling=pooling, normalize=normalize), provenance


def _model(
    given: ModelConfig, facts: ModelFacts, dtypes: Sequence[str], provenance: Provenance
) -> tuple[ModelConfig, Provenance]:
    dtype, max_len, matryoshka = given.dtype, given.max_model_len, given.matryoshka
    if dtype == AUTO:
        native = computes_bfloat16()
        dtype = "bfloat16" if native and "bfloat16" in dtypes else dtypes[0]
        reason = "this CPU computes bfloat16" if native else "this CPU does not compute bfloat16"
        if "bfloat16" not in dtypes:
            reason = "what the backend computes"
        provenance = provenance.put("model.dtype", Origin("chosen", reason, dtype))
    if max_len is None:
        max_len = facts.own_max_len
        provenance = provenance.put("model.max_model_len", Origin("model", "the model's own files", max_len))
    if matryoshka is None:
        matryoshka = facts.matryoshka
        provenance = provenance.put("model.matryoshka", Origin("model", "the model's config.json", matryoshka))
    return replace(given, dtype=dtype, max_model_len=max_len, matryoshka=matryoshka), provenance


def shape_winner(provenance: Provenance) -> str:
    """Return which of the three keys of ``warmup`` holds: the one that the highest layer sets.

    Raises:
        ConfigError: one layer sets shapes both ways.
    """
    ranks = {}
    for key in SHAPE_KEYS:
        held = provenance.origins[key][0]
        ranks[key] = 0 if held.value is None else _RANK_OF_LAYER[held.layer]
    pair = max(ranks["warmup.prompt_lens"], ranks["warmup.batch_sizes"])
    key = max(("warmup.prompt_lens", "warmup.batch_sizes"), key=lambda name: ranks[name])
    if ranks["warmup.shapes"] == pair and pair:
        raise ConfigError(
            f"warmup.shapes and {key} are both set by {provenance.where(key)} and {provenance.where('warmup.shapes')}",
            hint="they are one value; set it one way",
        )
    return key if pair > ranks["warmup.shapes"] else "warmup.shapes"


def _steps(
    given: RunConfig, can_stream: bool, provenance: Provenance
) -> tuple[ProcessConfig, SchedulerConfig, Provenance]:
    """Decide how many steps run at once and how large they are."""
    cpus, _ = count_cpus(given.process.num_cpus, read_cpu_facts())
    threads = threads_per_worker(cpus or 1, 1)
    streams, tokens = given.process.streams, given.scheduler.max_num_batched_tokens
    if streams is None:
        streams = threads if can_stream else 1
        reason = f"one for each of {threads} threads" if can_stream else f"{given.backend.name} runs one step at a time"
        provenance = provenance.put("process.streams", Origin("chosen", reason, streams))
    elif streams > 1 and not can_stream:
        raise ConfigError(
            f"process.streams={streams}, and backend={given.backend.name} runs one step at a time",
            where=provenance.where("process.streams"),
            hint="use 1",
        )
    if tokens is None:
        tokens = STEP_TOKENS_OF_THREAD * max(1, threads // streams)
        reason = f"{STEP_TOKENS_OF_THREAD} for each thread of a step"
        provenance = provenance.put("scheduler.max_num_batched_tokens", Origin("chosen", reason, tokens))
    process = replace(given.process, streams=streams)
    return process, replace(given.scheduler, max_num_batched_tokens=tokens), provenance


def said_shapes(given: RunConfig, provenance: Provenance) -> tuple[Shape, ...] | None:
    """Return the shapes that are written out, either way; None stands for ``auto``.

    Raises:
        ConfigError: they are not of the form.
    """
    winner = shape_winner(provenance)
    where = provenance.where(winner)
    if winner == "warmup.shapes":
        return parse_shapes(given.warmup.shapes or AUTO, where)
    lens = given.warmup.prompt_lens or REGISTRY_PROMPT_LENS
    return zip_shapes(lens, given.warmup.batch_sizes or REGISTRY_BATCH_SIZES, where)


def _shapes(given: RunConfig, provenance: Provenance, choose: type_choose) -> tuple[tuple[Shape, ...], Provenance]:
    winner = shape_winner(provenance)
    where = provenance.where(winner)
    shapes = said_shapes(given, provenance)
    if winner == "warmup.shapes":
        if shapes is None:
            choice = choose(given)
            shapes = choice.shapes
            if choice.padding is None:
                reason = f"auto: the default of backend={given.backend.name}"
            else:
                reason = f"auto for {given.model.max_model_len} tokens, {choice.padding:.1%} padding expected"
            provenance = provenance.put(winner, Origin("chosen", reason, [str(shape) for shape in shapes]))
        return shapes, provenance
    assert shapes is not None
    return shapes, provenance.put("warmup.shapes", Origin("zipped", where, [str(shape) for shape in shapes]))


def _unused(config: RunConfig, provenance: Provenance) -> list[str]:
    engine = config.engine
    said = {key: origins[0] for key, origins in provenance.origins.items() if origins[0].layer in SAID_BY_USER}
    return [
        f"{key} (set by {origin.where}) is not used by this run: it belongs to {owner}"
        for key, origin in said.items()
        if (owner := unused_by(key, engine=engine.name, task=engine.task, target=config.serve.target))
    ]


def _unused_of_auto(provenance: Provenance, *, chosen: bool, shapes: tuple[Shape, ...]) -> list[str]:
    """Name what only helps to choose shapes, where they are named, or where one range takes all."""
    ranged = any(shape.is_range for shape in shapes)
    reasons = {
        "warmup.trace": "" if chosen else "shapes are named",
        "warmup.budget": ("the backend takes a range of sizes" if ranged else "") if chosen else "shapes are named",
    }
    return [
        f"{key} (set by {provenance.where(key)}) is not used by this run: {reason}"
        for key, reason in reasons.items()
        if reason and provenance.origins[key][0].layer in SAID_BY_USER
    ]


def _notices(config: RunConfig, facts: ModelFacts, shapes: tuple[Shape, ...]) -> list[str]:
    notices = []
    longest = max(shape.prompt_len for shape in shapes)
    if longest < (config.model.max_model_len or 0):
        notices.append(
            f"inputs longer than {longest} tokens are refused, although the model takes {config.model.max_model_len}: "
            "no warmup shape is longer"
        )
    if not facts.has_pooling_files and config.engine.task == "embed" and config.engine.pooling == "mean":
        notices.append("the model has no modules.json; mean pooling is assumed (engine.pooling= says otherwise)")
    return notices
