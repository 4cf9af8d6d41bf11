"""What a bench asks: streams of a fixed number of tokens, each round anew to the cache of prefixes."""

import base64
from typing import Any

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.frontend.endpoint import Bench, BenchItems
from sendnn_pipeline.generation.plan import generation_plan


def _texts(run: Run, items: BenchItems) -> dict[str, Any]:
    prompts = [list(ids) for ids in items.token_ids]
    room = generation_plan(run).rules.max_output_tokens(max(map(len, prompts)))
    return {"prompt": prompts, **_answer(run, items, min(run.config.workload.output_tokens, room))}


def _chat(run: Run, items: BenchItems) -> dict[str, Any]:
    urls = (f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in items.images)
    content = [
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
        {"type": "text", "text": "\n".join(items.texts)},
    ]
    messages = [{"role": "user", "content": content}]
    return {"messages": messages, **_answer(run, items, run.config.workload.output_tokens)}


def _answer(run: Run, items: BenchItems, max_tokens: int) -> dict[str, Any]:
    return {
        "model": run.served_name,
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "cache_salt": f"round {items.round}",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


TEXT_BENCH = Bench(lambda _: True, _texts)
CHAT_BENCH = Bench(lambda run: generation_plan(run).images is not None, _chat, images=True)
