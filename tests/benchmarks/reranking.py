"""Ranking 100 passages against embedding the same texts, over HTTP, in real tokens a second.

``python -m tests.benchmarks.reranking [key=value ...]``. One client, both routes in turns; the ranking is checked
against the vectors of the other route.
"""

import statistics
import sys
import time

import httpx
import numpy as np

from tests.benchmarks.workload import mixed_texts
from tests.served import Served

PASSAGES, ROUNDS = 100, 15
QUERY = "how are names of an outer function bound"


def main() -> None:
    """Print the ratio of both rates."""
    words = ["model=minilm", "backend=inductor", *sys.argv[1:]]
    texts = mixed_texts(PASSAGES)
    rates: dict[str, list[float]] = {"/v1/embeddings": [], "/v1/rerank": []}
    bodies = {
        "/v1/embeddings": {"input": [QUERY, *texts], "encoding_format": "base64", "truncate_prompt_tokens": -1},
        "/v1/rerank": {"query": QUERY, "documents": texts, "truncate_prompt_tokens": -1, "return_documents": False},
    }
    with Served(*words) as served, httpx.Client(base_url=served.url, timeout=120) as session:
        for number in range(ROUNDS + 1):
            for route, body in bodies.items():
                began = time.perf_counter()
                answer = session.post(route, json=body).raise_for_status().json()
                seconds = time.perf_counter() - began
                if number:
                    rates[route].append(answer["usage"]["prompt_tokens"] / seconds)
        ranked = session.post("/v1/rerank", json=bodies["/v1/rerank"]).json()["results"]
        given = session.post("/v1/embeddings", json=bodies["/v1/embeddings"] | {"encoding_format": "float"}).json()
    query, *others = np.array([row["embedding"] for row in given["data"]])
    scores = {row["index"]: row["relevance_score"] for row in ranked}
    error = max(abs(scores[index] - float(query @ other)) for index, other in enumerate(others))
    ratios = [mine / theirs for theirs, mine in zip(*rates.values(), strict=True)]
    for route, found in rates.items():
        print(f"{route}: {statistics.median(found):,.0f} tokens/s ({min(found):,.0f} to {max(found):,.0f})")
    low, _, high = statistics.quantiles(ratios, n=4)
    share = f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"
    print(f"{PASSAGES} passages, {ROUNDS} rounds: rerank's rate is {share} of it")
    print(f"scores differ from the vectors' cosines by at most {error:.1e}")


if __name__ == "__main__":
    main()
