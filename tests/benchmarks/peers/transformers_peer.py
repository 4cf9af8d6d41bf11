"""transformers' own generation in a process of its own. Settings: dtype, batch_size.

Each line of input has a way and asks: ``batches`` (``generate`` on padded batches, the longest answers first),
``continuous`` (its continuous batching), ``reference`` (one prompt at a time), ``logprobs`` (after each prompt).
"""

import json
import os
import sys
import time

PAGE_SIZE, BATCH_TOKENS = 64, 2048


def load(folder, settings):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, settings["dtype"])).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    # What is None in a call is taken from here: answers go on after the model would have ended.
    model.generation_config.eos_token_id = None
    greedy = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id}

    def batches(asks, size):
        order = sorted(range(len(asks)), key=lambda index: -asks[index]["max_tokens"])
        texts = [""] * len(asks)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            encoded = tokenizer([asks[index]["prompt"] for index in batch], return_tensors="pt", padding=True)
            longest = asks[batch[0]]["max_tokens"]
            rows = model.generate(**encoded, max_new_tokens=longest, **greedy)[:, encoded["input_ids"].shape[1] :]
            for index, row in zip(batch, rows, strict=True):
                texts[index] = tokenizer.decode(row[: asks[index]["max_tokens"]], skip_special_tokens=True)
        return texts

    def continuous(asks):
        from transformers import ContinuousBatchingConfig, GenerationConfig

        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=tokenizer.pad_token_id)
        # By itself it takes most of the memory that is free.
        lengths = [len(tokenizer(ask["prompt"])["input_ids"]) + ask["max_tokens"] for ask in asks]
        blocks = sum(length // PAGE_SIZE + 2 for length in lengths)
        cache = ContinuousBatchingConfig(page_size=PAGE_SIZE, num_blocks=blocks, max_batch_tokens=BATCH_TOKENS)
        manager = model.init_continuous_batching(generation_config=config, continuous_batching_config=cache)
        manager.start()
        ids = [
            manager.add_request(tokenizer(ask["prompt"])["input_ids"], max_new_tokens=ask["max_tokens"]) for ask in asks
        ]
        texts = {}
        while len(texts) < len(ids):
            result = manager.get_result(timeout=600)
            if result is None or result.error:
                raise RuntimeError(f"continuous batching ended: {result and result.error}")
            if result.is_finished():
                texts[result.request_id] = tokenizer.decode(result.generated_tokens, skip_special_tokens=True)
        manager.stop(block=True)
        return [texts[name] for name in ids]

    def next_logprobs(asks):
        """Return the logarithms of all tokens' probabilities after each prompt, by their text."""
        found = []
        for ask in asks:
            encoded = tokenizer(ask["prompt"], return_tensors="pt")
            with torch.no_grad():
                logprobs = model(**encoded).logits[0, -1].float().log_softmax(dim=-1)
            top = logprobs.topk(100)
            found.append(
                {tokenizer.decode([i]): p for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)}
            )
        return found

    ways = {
        "batches": lambda asks: batches(asks, settings.get("batch_size", 16)),
        "continuous": continuous,
        "reference": lambda asks: batches(asks, 1),
        "logprobs": next_logprobs,
    }
    return ways


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    began = time.perf_counter()
    ways = load(sys.argv[1], json.loads(sys.argv[2]))
    print(json.dumps({"ready_seconds": time.perf_counter() - began}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        found = ways[asked["way"]](asked["asks"])
        print(json.dumps({"seconds": time.perf_counter() - began, "found": found}), file=answers, flush=True)
