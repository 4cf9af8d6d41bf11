"""A warm engine, asked by path or in one word: what serve targets and Python programs use."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sendnn_pipeline.errors import ConfigError, nearest
from sendnn_pipeline.frontend.bodies import convert_body
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.frontend import Frontend

EMBED, SCORE, CLASSIFY = "/v1/embeddings", "/v1/score", "/v1/classify"
COMPLETE, CHAT = "/v1/completions", "/v1/chat/completions"


@dataclass(frozen=True)
class WarmEngine:
    """The engine of a run, ready for requests."""

    front: Frontend
    endpoints: Mapping[str, Endpoint[Any]]
    """What can be asked, by path."""

    async def ask(self, path: str, body: Mapping[str, Any], *, deadline: float = math.inf) -> Any:
        """Return the content of the answer, as HTTP has it; vectors are float32 arrays.

        Args:
            path: of the endpoint, such as ``/v1/embeddings``.
            body: its fields.
            deadline: monotonic seconds at which the answer is of no more use.

        Raises:
            RequestError: the body is refused, the deadline passed, or the engine failed on it.
            ConfigError: the run's engine has no such path.
            TypeError: the body has a field that the endpoint does not know.
        """
        endpoint = self.endpoints.get(path)
        if endpoint is None:
            engine = self.front.run.config.engine.name
            raise ConfigError(f"the engine {engine} has no {path}", hint=nearest(path, self.endpoints))
        fields: tuple[str, ...] = endpoint.body.__struct_fields__
        unknown = next((name for name in body if name not in fields), None)
        if unknown is not None:
            raise TypeError(f"{path} has no field {unknown}; {nearest(unknown, fields)}")
        content, _ = await self.front.answer(endpoint, convert_body(dict(body), endpoint.body), deadline)
        return content

    async def embed(self, texts: str | Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """Return a vector for each text, ``[texts, dimensions]``.

        Args:
            texts: one or several.
            options: fields of the body of ``/v1/embeddings``, such as ``dimensions`` or ``truncate_prompt_tokens``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no vectors.
            TypeError: there is no such option.
        """
        content = await self.ask(EMBED, {"input": _listed(texts), **options, "encoding_format": "float"})
        return np.stack([entry["embedding"] for entry in content["data"]])

    async def score(self, query: str, documents: Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """Return a score for each document, ``[documents]``: of a cross-encoder, or the cosine of two vectors.

        Args:
            query: what they are compared with.
            documents: one or more.
            options: fields of the body of ``/v1/score``, such as ``truncate_prompt_tokens``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no scores.
            TypeError: there is no such option.
        """
        content = await self.ask(SCORE, {"queries": query, "documents": list(documents), **options})
        return np.array([entry["score"] for entry in content["data"]], np.float32)

    async def classify(self, texts: str | Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """Return the likeliest ``label`` of each text with the probabilities of all, ``probs``.

        Args:
            texts: one or several.
            options: fields of the body of ``/v1/classify``, such as ``use_activation``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no labels.
            TypeError: there is no such option.
        """
        content = await self.ask(CLASSIFY, {"input": _listed(texts), **options})
        return [{"label": entry["label"], "probs": entry["probs"]} for entry in content["data"]]

    async def generate(self, prompts: str | Sequence[str], **options: Any) -> list[str]:
        """Return the text behind each prompt; with ``n``, all of the first prompt's come first.

        Args:
            prompts: one or several.
            options: fields of the body of ``/v1/completions``, such as ``max_tokens`` or ``seed``.

        Raises:
            RequestError: a prompt is too long, or an option is out of range.
            TypeError: there is no such option.
        """
        content = await self.ask(COMPLETE, {"prompt": _listed(prompts), **options})
        return [choice["text"] for choice in content["choices"]]

    async def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """Return the text of the model's answer to a conversation; empty where that is calls of tools alone.

        Args:
            messages: of ``role`` and ``content`` each.
            options: fields of the body of ``/v1/chat/completions``.

        Raises:
            RequestError: the messages are too long, or refused by the model's template.
            TypeError: there is no such option.
        """
        content = await self.ask(CHAT, {"messages": list(messages), **options})
        text: str | None = content["choices"][0]["message"]["content"]
        return text or ""


def _listed(texts: str | Sequence[str]) -> str | list[str]:
    return texts if isinstance(texts, str) else list(texts)
