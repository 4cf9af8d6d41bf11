"""What can be asked of the engine, by path: over HTTP, and in the lines of a batch file."""

from typing import Any

from sendnn_pipeline.server import classify, embeddings, rerank
from sendnn_pipeline.server.answering import Endpoint

ENDPOINTS: dict[str, Endpoint[Any]] = {
    **embeddings.ENDPOINTS,
    **rerank.ENDPOINTS,
    "/rerank": rerank.RERANK,
    **classify.ENDPOINTS,
}
