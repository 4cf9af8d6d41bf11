"""What many tests need: a tiny model, the embedded model, texts, and real servers."""

import json
import os
import pydoc_data.topics
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sendnn_pipeline.app import engine_start
from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import AppContext, load_context
from sendnn_pipeline.app.resolve import ResolvedRun, resolve_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.distributed.inline import start_inline
from sendnn_pipeline.pipeline.rank import run_rank
from tests.classifiers import make_classifier
from tests.distribution import distribute, made_once, session_folder
from tests.generation.api.models import Reference, make_llama
from tests.in_process import SIGNALS, CommandLine
from tests.processes import cpu_answer
from tests.processes.untraced import Untraced
from tests.served import EAGER_FLOAT32, ECHO, ECHO_FOLDER, MINILM_FLOAT32, Served, with_echo
from tests.served_here import ServedHere


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch of the whole suite; what each answer means is in processes/cpu_answer.py."""
    parser.addoption(
        "--cpu-answer",
        choices=cpu_answer.ANSWERS,
        default=cpu_answer.ASK,
        help="what the product is told when it asks whether this CPU computes bfloat16; ask: end the test, as it does "
        "not say its dtype (the default)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Answer in this process and in every one that the tests start, through the environment that they inherit."""
    os.environ[cpu_answer.VARIABLE] = config.getoption("cpu_answer")
    os.environ.update(cpu_answer.in_environment(dict(os.environ)))
    # Two workers and their servers share the CPUs: threads that spin while they wait take them from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A third of what torch's own build of a graph costs is what calls its kernels (zentorch's are built so), and the
    # processes that would compile several at once import torch first.
    os.environ.setdefault("AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL", "O0")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # Else programs are built to try what the CPU has, and headers are compiled for each folder of a cache.
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
    os.environ.setdefault("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell that runs the tests in the background has them, and whatever they start, ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("cov_source", None):
        # Before a file of tests is imported, and transformers with it.
        Untraced().leave_out()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group and order the tests, before pytest-xdist reads the groups."""
    distribute(items)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """What is started by a process that ignores Ctrl-C ignores it, too; an engine that goes on computes beside others.

    A test that leaves one of them so hangs or breaks those after it.
    """
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    names = [thread.name for thread in threading.enumerate()]
    hosts = names.count("served-here") + names.count("sendnn-engine")
    assert names.count("sendnn-rank-0") <= hosts, names


def clean_environ(**variables: str) -> dict[str, str]:
    """Return this process's environment without variables of ours, plus ``variables``."""
    ours = ("SENDNN_", "VLLM_SPYRE_", "VLLM_DT_")
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)} | variables


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The embedded default model, fetched once into the user's cache."""
    return compose_run(load_context(clean_environ()), parse_overrides(["model=minilm"])).fetch()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The embedded decoder, fetched and converted once into the user's cache."""
    return compose_run(load_context(clean_environ()), parse_overrides(["model=smollm2"])).fetch()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT of 64 positions with a real WordPiece tokenizer and mean pooling."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def make_tiny(folder: Path, *, pooling: str = "mean_tokens", normalize: bool = True, num_layers: int = 2) -> Path:
    """Write a tiny sentence-transformers model into ``folder``."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "of", "and", "to", "in", "is", "hello", "world"]
    vocab = {word: index for index, word in enumerate([*words, *letters, *(f"##{letter}" for letter in letters)])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": num_layers, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocab), max_position_embeddings=64, pad_token_id=0, **sizes)
    BertModel(config).save_pretrained(folder)
    modules = ["models.Transformer", "models.Pooling"] + (["models.Normalize"] if normalize else [])
    paths = ["", "1_Pooling", "2_Normalize"]
    described = [{"idx": i, "type": f"sentence_transformers.{m}", "path": paths[i]} for i, m in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(described))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return folder


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """200 passages of real English prose, of mixed lengths: 5 to 250 tokens or so."""
    words = " ".join(pydoc_data.topics.topics.values()).split()
    chooser = random.Random(0)
    lengths = [min(160, max(3, round(chooser.lognormvariate(3.3, 0.8)))) for _ in range(200)]
    starts = [chooser.randrange(len(words) - 200) for _ in lengths]
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


@pytest.fixture(scope="session")
def vectors_of_texts(minilm: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What transformers makes of all texts in float32."""
    from tests.reference import mean_pooled

    return np.load(made_once(tmp_path_factory, "texts.npy", lambda file: np.save(file, mean_pooled(minilm, texts))))


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The word for the one folder of this session that takes what is compiled."""
    return f"artifacts.dir={session_folder(tmp_path_factory) / 'artifacts'}"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, called in this process."""
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def whole_run(in_process: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line with its engine in a thread of this process: for runs of which only the answers matter.

    A process of its own spends seven seconds on the imports of torch and transformers.
    """

    def start(job, run, environment, environ, standby):
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        return start_inline(run_rank, run)

    monkeypatch.setattr(engine_start, "start_ranks", start)
    return in_process


@pytest.fixture
def echo_run(whole_run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The same with the echo engine installed."""
    monkeypatch.syspath_prepend(ECHO_FOLDER)
    return whole_run


@pytest.fixture(scope="session")
def context() -> AppContext:
    """What can be run in an environment without variables of ours."""
    return load_context(clean_environ())


def resolved_run(overrides: list[str], environ: dict[str, str] | None = None) -> ResolvedRun:
    """Resolve overrides over a model that is here already."""
    context = load_context(environ or clean_environ())
    composed = compose_run(context, parse_overrides(overrides))
    return resolve_run(context, composed, composed.fetch())


@pytest.fixture(scope="session")
def served_tiny(tiny: Path):
    """A real server of the tiny model, eager."""
    with Served(*EAGER_FLOAT32, f"model.path={tiny}", "warmup.shapes=[16x1,16x4,48x4]", measured=True) as served:
        yield served


@pytest.fixture(scope="session")
def served_echo(tiny: Path):
    """A real server of the echo engine."""
    with Served(*ECHO, f"model.path={tiny}", **with_echo()) as served:
        yield served


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one label, which tells the texts of a pair apart by token types."""
    return make_classifier(tmp_path_factory.mktemp("cross-encoder"), "bert", 1)


@pytest.fixture(scope="session")
def served_cross_encoder(cross_encoder: Path):
    """A real server of it, eager."""
    with ServedHere(*EAGER_FLOAT32, f"model.path={cross_encoder}") as served:
        yield served


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random RoBERTa of three labels."""
    names = {"id2label": {"0": "no", "1": "yes", "2": "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
    return make_classifier(tmp_path_factory.mktemp("classifier"), "roberta", 3, **names)


@pytest.fixture(scope="session")
def served_classifier(classifier: Path):
    """A real server of it, eager."""
    with ServedHere(*EAGER_FLOAT32, f"model.path={classifier}") as served:
        yield served


@pytest.fixture(scope="session")
def served_minilm(minilm: Path):
    """A real server of the embedded model, eager."""
    with ServedHere(*MINILM_FLOAT32, "backend=eager", "warmup.shapes=[32x1,32x16,128x8,256x4]") as served:
        yield served


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama with a byte-level tokenizer and a chat template."""
    # Without a number: it is the name by which clients ask for the model.
    (folder := tmp_path_factory.mktemp("models") / "llama").mkdir()
    return make_llama(folder)


@pytest.fixture(scope="session")
def llama_reference(llama: Path) -> Reference:
    """The same model in transformers."""
    return Reference(llama)


@pytest.fixture(scope="session")
def served_llama(llama: Path):
    """A real server of it, eager, with room for few."""
    words = ("scheduler.max_num_seqs=8", "serve.max_queue=64", "engine.request_templates=true")
    with Served(*EAGER_FLOAT32, f"model.path={llama}", *words, measured=True) as served:
        yield served
