"""What an architecture does with images: which tokens stand for one, and how it is encoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.hooks.registry import Registry
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.models.json_files import read_object

if TYPE_CHECKING:
    from torch import nn

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"


class ImageLayout(Protocol):
    """How images stand in the prompts of one model: a frozen dataclass without torch, which processes share."""

    @property
    def placeholder(self) -> str:
        """What the chat template writes for an image."""

    @property
    def token_id(self) -> int:
        """The token in whose places the rows of an image are read."""

    def expand(self, width: int, height: int) -> str:
        """Return the text that an image of so many pixels is in a prompt, instead of the placeholder.

        It has ``token_id`` once for every row that the encoder gives for the image.

        Raises:
            ValueError: the model can make nothing of an image of that size; the message says what it takes.
        """


@dataclass(frozen=True)
class Parts:
    """Where the parts of a model are, as transformers names its modules."""

    language: str
    """The text model, below ``model.``."""
    vision: tuple[str, ...]
    """What only images need, below ``model.``: the only parts that are cast and placed."""


class ImageAdapter(Protocol):
    """An architecture, which ``register_multimodal_adapters`` names by its ``model_type``. Making one is cheap."""

    @property
    def examples(self) -> str:
        """Models of the architecture, for the README."""

    @property
    def parts(self) -> Parts:
        """Of its model."""

    def layout(self, model: ModelFacts) -> ImageLayout:
        """Read what decides the tokens of an image.

        Raises:
            ModelError: a file lacks it.
        """

    def processor(self, model: ModelFacts) -> Any:
        """Return transformers' image processor of the model, one that works without torchvision."""

    def encode(self, vision: "nn.Module", pixels: Mapping[str, Any]) -> Any:
        """Return the rows ``[tokens, hidden size]`` of one image.

        Args:
            vision: the model of transformers, without its text model.
            pixels: what the processor made of the image, floats in the encoder's dtype, on its device.
        """


class AdapterBase:
    """What architectures have in common whose ``get_image_features`` gives the rows as ``pooler_output``."""

    def encode(self, vision: "nn.Module", pixels: Mapping[str, Any]) -> Any:
        """Return the rows of one image."""
        (rows,) = vision.get_image_features(**pixels, return_dict=True).pooler_output  # type: ignore[operator]
        return rows


def adapter_registry(plugins: Plugins) -> Registry[ImageAdapter]:
    """Return the adapters that plugins register."""
    return plugins.registry("register_multimodal_adapters", "multimodal adapter")


def processor_values(model: ModelFacts) -> Mapping[str, Any]:
    """Return what the model's files say of its image processor.

    Raises:
        ModelError: there is no such file.
    """
    values = read_object(model.folder / PREPROCESSOR)
    whole = read_object(model.folder / PROCESSOR)
    inner = whole.get("image_processor")
    # What the processor as a whole says, such as its tokens, is beside what its image processor does.
    found = {**whole, **values, **(inner if isinstance(inner, dict) else {})}
    if not found:
        raise ModelError(f"{model.folder} has neither {PREPROCESSOR} nor {PROCESSOR}", hint="fetch the model again")
    return found


def image_token_id(model: ModelFacts, default: int | None = None) -> int:
    """Return the id of the token that stands for a row of an image.

    Raises:
        ModelError: config.json has none.
    """
    for name in ("image_token_id", "image_token_index"):
        value = model.config.get(name)
        if isinstance(value, int):
            return value
    if default is None:
        raise ModelError(f"{model.folder / 'config.json'} has no image_token_id", hint="fetch the model again")
    return default


def token_text(model: ModelFacts, token_id: int) -> str:
    """Return the text of an added token.

    Raises:
        ModelError: the tokenizer has no such token.
    """
    tokens = read_object(model.folder / "tokenizer.json").get("added_tokens") or ()
    for token in tokens:
        if token.get("id") == token_id:
            return str(token["content"])
    raise ModelError(
        f"{model.folder / 'tokenizer.json'} adds no token {token_id}, which config.json has for images",
        hint="fetch the model again",
    )


def edge_of(value: Any, default: int) -> int:
    """Return a length out of what processors write for one: a number, or a mapping of edges."""
    if isinstance(value, dict):
        value = value.get("longest_edge") or value.get("shortest_edge") or value.get("height")
    return int(value) if value else default
