"""What a model's files say of how texts become vectors or labels: sentence-transformers' files, and config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.models.json_files import convert
from sendnn_pipeline.models.sentence_files import MODULES, read_tokenizer_limit
from sendnn_pipeline.pooling.labels import ClassifierConfig, activation_of_files, labels_of
from sendnn_pipeline.pooling.modules import USE_ANOTHER, Module, Normalize
from sendnn_pipeline.pooling.sentence_model import SENTENCE_CONFIG, SentenceModel, read_sentence_model

GENERATES = ("ForCausalLM", "LMHeadModel")


class TextOptions(msgspec.Struct):
    """What config.json says of how its text model reads."""

    type_vocab_size: int | None = None
    is_causal: bool | None = None


@dataclass(frozen=True)
class PoolingFacts:
    """What decides pooling, lengths and labels where the user does not."""

    pooling: str
    """``mean``, ``cls``, … or several of them joined by ``+``."""
    normalize: bool
    """Whether vectors come out of length one."""
    has_modules: bool
    """Whether the model has sentence-transformers' modules.json."""
    max_length: int
    """The longest input that its files allow; 0 where nothing limits it."""
    matryoshka: bool
    modules: tuple[Module, ...] = ()
    """What follows the pooling, the scaling to length one included."""
    include_prompt: bool = True
    """Whether a prompt's own tokens are pooled, too."""
    generates: bool = False
    """Whether it was made to generate text, and no file says how it pools."""
    labels: tuple[str, ...] = ()
    """A classifier's, in the order of its logits; one for a cross-encoder; none for other models."""
    activation: str = "identity"
    """What makes scores of logits: `identity`, `sigmoid` or `softmax`."""
    token_type_ids: bool = False
    """Whether the model tells the two texts of a pair apart by token types."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Texts to put before others, by name."""
    default_prompt: str | None = None
    """Name of the prompt that is meant where none is named."""
    lower_case: bool = False
    """Whether texts are read in lower case, whatever the tokenizer does."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """The file that each of these was taken from, where one says it."""
    notices: tuple[str, ...] = ()
    """What the files ask for that is not done, a line each."""


def read_pooling_facts(model: ModelFacts) -> PoolingFacts:
    """Read the files.

    Raises:
        ModelError: one is broken, or asks for what is not supported; the message names it.
    """
    config, folder = model.config, model.folder
    sentence_model = read_sentence_model(folder)
    has_modules = (folder / MODULES).is_file()
    classifier = convert(config, ClassifierConfig, folder / "config.json")
    reads = convert(model.text_config, TextOptions, folder / "config.json")
    labels = labels_of(model.architecture, classifier)
    if has_modules and not sentence_model.pooling and not labels:
        raise ModelError(f"{folder / MODULES} has no Pooling, so it gives no vectors", hint=USE_ANOTHER)
    activation, activation_file = activation_of_files(
        classifier, sentence_model.config.activation_fn, len(labels), folder
    )
    generates = model.architecture.endswith(GENERATES) and not sentence_model.pooling
    # As sentence-transformers: what attends to the past only has read the whole text at its end.
    assumed = "last" if generates and reads.is_causal is not False else "mean"
    max_length, length_file = _max_length(model, sentence_model)
    trained = bool(
        config.get("is_matryoshka") or config.get("matryoshka_dimensions") or sentence_model.config.truncate_dim
    )
    prompts = {name: prompt or "" for name, prompt in (sentence_model.config.prompts or {}).items()}
    sources = {
        "pooling": sentence_model.pooling_file,
        "modules": MODULES if sentence_model.modules else "",
        "max_length": length_file,
        "lower_case": sentence_model.transformer.name if sentence_model.transformer.do_lower_case else "",
        "prompts": SENTENCE_CONFIG if any(prompts.values()) else "",
        "activation": activation_file if labels else "",
    }
    normalize = bool(sentence_model.modules) and isinstance(sentence_model.modules[-1], Normalize)
    return PoolingFacts(
        pooling=sentence_model.pooling or assumed,
        normalize=normalize,
        has_modules=has_modules,
        max_length=max_length,
        matryoshka=trained,
        modules=sentence_model.modules,
        include_prompt=sentence_model.include_prompt,
        generates=generates,
        labels=labels,
        activation=activation,
        token_type_ids=(reads.type_vocab_size or 0) > 1,
        prompts=prompts,
        default_prompt=sentence_model.config.default_prompt_name,
        lower_case=sentence_model.transformer.do_lower_case,
        sources={name: file for name, file in sources.items() if file},
        notices=(*sentence_model.notices, *_similarity(sentence_model, normalize)),
    )


def _max_length(model: ModelFacts, sentence_model: SentenceModel) -> tuple[int, str]:
    """Return the longest input and the file that says so, as sentence-transformers finds it."""
    longest, file = sentence_model.transformer.max_seq_length or 0, sentence_model.transformer.name
    if not longest:
        longest, file = read_tokenizer_limit(model.folder) or 0, "tokenizer_config.json"
    limit = model.position_limit
    if limit and (not longest or longest > limit):
        return limit, "config.json"
    return longest, file if longest else ""


def _similarity(sentence_model: SentenceModel, normalize: bool) -> tuple[str, ...]:
    name = sentence_model.config.similarity_fn_name or "cosine"
    # Of vectors of length one both are the same.
    if name == "cosine" or (name == "dot" and normalize):
        return ()
    return (f"{SENTENCE_CONFIG} has similarity_fn_name={name}, and scores of pairs here are cosines",)
