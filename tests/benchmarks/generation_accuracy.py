"""How near the servers are to transformers in float32: greedy texts in float32, and logprobs in bfloat16.

``python -m tests.benchmarks.generation_accuracy [PEERS_FOLDER] [key=value ...]``, the part of ``generating``.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.completions import Ask, complete
from tests.benchmarks.generation_servers import Server
from tests.benchmarks.peers.peer import Peer, Setting

if TYPE_CHECKING:
    from tests.benchmarks.generating import Trial

NUM_TEXTS, TEXT_TOKENS = 16, 64
NUM_POSITIONS = 64


def reference(trial: "Trial", way: str, asks: Sequence[Ask], dtype: str = "float32") -> list[Any]:
    """Return what transformers makes of each ask by itself."""
    setting = Setting("reference", "", "transformers_peer.py", {"dtype": dtype})
    with Peer(Path(sys.prefix), setting, trial.model) as peer:
        return peer.ask(way, asks)[1]


def exact(trial: "Trial") -> None:
    """Print how many greedy texts in float32 are transformers' own."""
    asks = trial.prose.asks(NUM_TEXTS, (16, 256), (TEXT_TOKENS, TEXT_TOKENS))
    expected = reference(trial, "reference", asks)
    with ExitStack() as stack:
        for server in [stack.enter_context(Server(command)) for command in trial.commands("float32")]:
            with server.turn() as url:
                texts = [choice["text"] for choice in complete(url, asks)]
            same = sum(found == wanted for found, wanted in zip(texts, expected, strict=True))
            print(
                f"accuracy {server.name}: {same} of {len(asks)} greedy texts in float32 are transformers'", flush=True
            )


def rounded(trial: "Trial", servers: Sequence[Server]) -> None:
    """Print how far logprobs in bfloat16 are from float32, after each word of one text."""
    words = trial.prose.text(3 * NUM_POSITIONS).split()
    asks = [Ask(" ".join(words[: number + 8]), 1) for number in range(min(NUM_POSITIONS, len(words) - 8))]
    expected = reference(trial, "logprobs", asks)
    own = [_top(after) for after in reference(trial, "logprobs", asks, "bfloat16")]
    _print_distance("transformers", own, expected)
    for server in servers:
        with server.turn() as url:
            tops = [_top(choice["logprobs"]["top_logprobs"][0]) for choice in complete(url, asks, logprobs=1)]
        _print_distance(server.name, tops, expected)


def _top(logprobs: dict[str, float]) -> tuple[str, float]:
    return max(logprobs.items(), key=lambda item: item[1])


def _print_distance(name: str, tops: Sequence[tuple[str, float]], expected: Sequence[dict[str, float]]) -> None:
    """Compare the logprob of each server's first choice with that of the same token."""
    found = [abs(logprob - after[token]) for (token, logprob), after in zip(tops, expected, strict=True)]
    same = sum(token == _top(after)[0] for (token, _), after in zip(tops, expected, strict=True))
    print(
        f"accuracy {name}: logprobs in bfloat16 differ from float32 by {sum(found) / len(found):.4f} in the mean, "
        f"{max(found):.4f} at most; {same} of {len(tops)} first choices are the same",
        flush=True,
    )


if __name__ == "__main__":
    from tests.benchmarks import generating

    sys.argv.append("part=accuracy")
    generating.main()
