"""What a bench asks: streams of a fixed number of tokens."""

from typing import Any

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.frontend.endpoint import Bench, BenchItems
from sendnn_pipeline.generation.plan import generation_plan


def _body(run: Run, items: BenchItems) -> dict[str, Any]:
    prompts = [list(ids) for ids in items.token_ids]
    room = generation_plan(run).rules.max_output_tokens(max(map(len, prompts)))
    return {
        "model": run.served_name,
        "prompt": prompts,
        "max_tokens": min(run.config.workload.output_tokens, room),
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


BENCH = Bench(lambda _: True, _body)
