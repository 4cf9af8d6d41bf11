"""The keys of how a warm engine is offered, measured and tried."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from sendnn_pipeline.config.numbers import Positive


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where the engine is offered. Targets with options of their own subclass this."""

    target: str = "http"
    """Registered serve target."""
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every IPv4 address of the machine, :: every one."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    uds: str | None = None
    """Unix socket to listen on instead of an address and a port."""
    ssl_certfile: str | None = None
    """Certificate chain in PEM form, to speak HTTPS."""
    ssl_keyfile: str | None = None
    """Its key, without a password; null where the certificate's file holds it."""
    max_queue: Positive = 4096
    """Most texts without an answer, those being computed included; more are refused with 429."""
    drain_seconds: Annotated[float, Meta(ge=0)] = 30.0
    """How long running requests may take to finish after SIGTERM."""
    stall_seconds: Annotated[float, Meta(gt=0)] = 30.0
    """After how long without a word of the engine `/ready` says so."""
    request_timeout_seconds: Annotated[float, Meta(gt=0)] = 60.0
    """Deadline of a request; the header X-Request-Timeout-Seconds can shorten it."""
    max_body_bytes: Positive = 8_388_608
    """Largest request body."""
    max_connections: Positive = 512
    """Most connections at once; beyond them the idle ones are closed, and probes still have room."""
    head_timeout_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """How long a client may take to send the headers of a request, counted from its connection for the first."""
    body_timeout_seconds: Annotated[float, Meta(gt=0)] = 30.0
    """How long a client may take to send the body of a request."""
    reading_timeout_seconds: Annotated[float, Meta(gt=0)] = 60.0
    """How long a client may take to read an answer, or to read anything of a stream."""
    page: bool = True
    """Answer `GET /` with a page of plan, Programs, load, latency and recent errors."""
    api_key_file: str | None = None
    """File that holds the API keys, one a line; SENDNN_PIPELINE_API_KEY is one key without a file."""
    root_path: str = ""
    """Path before every route, such as `/embedder`, for a proxy; requests may have it or come without it."""
    allowed_origins: list[str] = field(default_factory=list)
    """Origins of web pages that may ask from a browser (CORS), such as `https://app.example`; `*` is any."""
    keep_alive_seconds: Positive = 90
    """How long a connection stays open between requests; above the idle time of the proxy or client before it."""


class Lengths(StrEnum):
    """How lengths are drawn."""

    lognormal = "lognormal"
    uniform = "uniform"
    trace = "trace"


class BenchTask(StrEnum):
    """What a bench asks."""

    auto = "auto"
    texts = "texts"
    rerank = "rerank"


@dataclass(frozen=True, kw_only=True)
class GoodputConfig:
    """What a request of `serve=bench` must not take longer than, to count as good."""

    ttft_ms: Annotated[float, Meta(gt=0)] | None = None
    """To the first token, in milliseconds; of a whole answer, to the answer."""
    tpot_ms: Annotated[float, Meta(gt=0)] | None = None
    """A token after the first, in milliseconds; of an engine that generates."""
    latency_ms: Annotated[float, Meta(gt=0)] | None = None
    """To the end of the answer, in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class WorkloadConfig:
    """The requests of `serve=bench`: real tokens, the same for the same seed."""

    name: str = "lognormal"
    """Name of the option."""
    lengths: Lengths = Lengths.lognormal
    """How lengths are drawn: `lognormal`, `uniform` or `trace`."""
    median: Annotated[float, Meta(gt=0)] = 45.0
    """Tokens of the middle text (lognormal)."""
    sigma: Annotated[float, Meta(ge=0)] = 0.85
    """Spread of the logarithm of lengths (lognormal)."""
    min_tokens: Positive = 5
    """Tokens of the shortest text (lognormal, uniform)."""
    max_tokens: Positive = 256
    """Tokens of the longest text (lognormal, uniform); cut to what the model takes."""
    least: Positive | None = None
    """Old name of `workload.min_tokens`."""
    most: Positive | None = None
    """Old name of `workload.max_tokens`."""
    trace: str | None = None
    """File of lengths (trace)."""
    num_requests: Positive = 64
    """Requests of one round."""
    output_tokens: Positive = 128
    """Tokens of each answer that is generated; cut to what the context leaves, but not beside images."""
    texts_per_request: Positive = 8
    """Texts of each request; under `rerank` its documents."""
    images_per_request: Annotated[int, Meta(ge=0)] = 0
    """Images of each request, of a model that reads them; its texts are one message then."""
    image_width: Positive = 640
    """Pixels of an image."""
    image_height: Positive = 480
    """Pixels of an image."""
    task: BenchTask = BenchTask.auto
    """`texts`, each by itself, or `rerank`, a query with its documents; `auto` reranks with a cross-encoder."""
    query_tokens: Positive = 12
    """Tokens of a query (rerank)."""
    concurrency: Positive = 16
    """Clients that each send their next request when the last one is answered (closed loop)."""
    rate: Annotated[float, Meta(gt=0)] | None = None
    """Requests a second, sent whether the last ones are answered or not (open loop); null is a closed loop."""
    goodput: GoodputConfig = field(default_factory=GoodputConfig)
    seed: int = 0
    """Of lengths, texts, images and arrivals."""


@dataclass(frozen=True, kw_only=True)
class PerfLogConfig:
    """Log of startup phases and finished requests."""

    enabled: bool = False
    """Write the log."""
    dir: Annotated[str, Meta(min_length=1)] = "/tmp"
    """Folder of perf_log_rank_0.txt and request_metrics.jsonl, both appended to."""


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """What is measured and where it goes."""

    perf_log: PerfLogConfig = field(default_factory=PerfLogConfig)
    request_details: bool = False
    """Queue, prefill and decode timings in a request's final usage object."""


class LogLevel(StrEnum):
    """The least that is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(StrEnum):
    """How a record is written."""

    text = "text"
    json = "json"


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What both processes log to standard error."""

    level: LogLevel = LogLevel.info
    """Lowest level that is logged; refused requests are `info`, failed ones `warning` or `error`."""
    format: LogFormat = LogFormat.text
    """`text`: a line; `json`: an object a line, with the plan and the progress among them."""
    access: bool = False
    """Log every answer, but those to probes; refused and failed requests are logged in any case."""
