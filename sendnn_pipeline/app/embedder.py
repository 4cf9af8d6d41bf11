"""The pooling engine from Python."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sendnn_pipeline.app.door import EngineDoor


class Embedder(EngineDoor):
    """Vectors, scores and labels of texts.

    ```python
    with Embedder("model=minilm", "backend=inductor") as embedder:
        vectors = embedder.embed(["compiled shapes", "are fixed"])  # float32 [2, 384]
    ```
    """

    route = "/v1/embeddings"

    def embed(self, texts: str | Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """Return a vector for each text, ``[texts, dimensions]``.

        Args:
            texts: one or several.
            options: fields of the body of ``/v1/embeddings``, such as ``dimensions`` or ``truncate_prompt_tokens``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no vectors.
            TypeError: there is no such option.
        """
        inputs = texts if isinstance(texts, str) else list(texts)
        return self.ask(lambda engine: engine.embed(inputs, **options))

    def score(self, query: str, documents: Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """Return a score for each document, ``[documents]``: of a cross-encoder, or the cosine of two vectors.

        Args:
            query: what they are compared with.
            documents: one or more.
            options: fields of the body of ``/v1/score``, such as ``truncate_prompt_tokens``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no scores.
            TypeError: there is no such option.
        """
        listed = list(documents)
        return self.ask(lambda engine: engine.score(query, listed, **options))

    def classify(self, texts: str | Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """Return the likeliest ``label`` of each text with the probabilities of all, ``probs``.

        Args:
            texts: one or several.
            options: fields of the body of ``/v1/classify``, such as ``use_activation``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no labels.
            TypeError: there is no such option.
        """
        inputs = texts if isinstance(texts, str) else list(texts)
        return self.ask(lambda engine: engine.classify(inputs, **options))
