"""A call of prefill or decode, its inputs known by name, and the cache that lives on the card."""

import torch

from torch_sendnn._card import rule

INTEGERS = ("input_ids", "position_ids", "slot_mapping", "block_table", "current_tkv_mask", "left_padded_prompt_mask")
EMBEDS = "inputs_embeds"
KV = "past_key_value_states"


def check(asked, card):
    """Check a call, and return the names of the cache's tensors."""
    kv = [name for name in asked if KV in name]
    rule(kv and len(kv) % 2 == 0, f"no pairs of {KV} among {list(asked)}")
    found = {wanted: tensor for wanted in INTEGERS for name, tensor in asked.items() if wanted in name}
    embeds = [tensor for name, tensor in asked.items() if EMBEDS in name]
    rule(len(found) + len(embeds) + len(kv) == len(asked), f"other inputs: {list(asked)}")
    rule(len(embeds) + ("input_ids" in found) == 1, "tokens are either ids or what the first layer reads")
    read = embeds[0] if embeds else found["input_ids"]
    slots, table = (found[name] for name in ("slot_mapping", "block_table"))
    # Of models that know no positions, dynamo drops them.
    positions = found.get("position_ids", slots)
    tkv, padding = found["current_tkv_mask"], found["left_padded_prompt_mask"]
    rule(all(tensor.dtype == torch.int64 for tensor in found.values()), "int64")
    rows, tokens = read.shape[:2]
    size = tuple(range(2, read.dim()))
    rule(len(size) == len(embeds), f"tokens of {read.dim()} dimensions")
    rule(
        (rows, tokens) == positions.shape == slots.shape
        and len(table) == rows
        and tkv.shape == padding.shape == (rows,),
        "rows",
    )
    rule(
        not (padding % 64).any() and bool((tkv > padding).all()), "left padding is whole blocks before the first token"
    )
    longest, chunk = int(tkv.max()), card.limit("CHUNK_LEN")
    if tokens > 1:
        rule((rows, tokens) == (1, chunk) and longest % chunk == 0, f"a prefill of {rows} x {tokens} up to {longest}")
        rule(
            longest < card.limit("MAX_CONTEXT_LEN") + chunk and table.shape[1] * 64 == longest, "blocks up to the chunk"
        )
        marks(read, (0, *size), (1,))
        for tensor in (positions, slots, table):
            marks(tensor, (0,), (1,))
        for tensor in (tkv, padding):
            marks(tensor, (), ())
        written = set(table[0, -(chunk // 64) :].tolist()) | {0}
        rule(set((slots[0] // 64).tolist()) <= written, "slots of other blocks than the chunk's")
    else:
        rule(
            rows <= card.limit("MAX_BATCH_SIZE") and longest <= card.limit("MAX_CONTEXT_LEN"),
            "a decode that is too large",
        )
        rule(rows * longest <= card.limit("MAX_BATCH_TKV_LIMIT"), f"{rows} x {longest} is above the limit")
        rule(table.shape[1] == -(-longest // 64), f"{table.shape[1]} blocks for {longest} tokens")
        marks(read, (1, *size), (0,))
        for tensor in (positions, slots):
            marks(tensor, (1,), (0,))
        marks(table, (), (0, 1))
        for tensor in (tkv, padding):
            marks(tensor, (), (0,))
        last = table.gather(1, ((tkv - 1) // 64)[:, None])
        rule(bool((slots == last * 64 + ((tkv - 1) % 64)[:, None]).all()), "a token goes behind the last one")
        # Rectangular: what is shorter is padded on the left, with the block of padding.
        for row in range(rows):
            rule(not table[row, : int(padding[row]) // 64].any(), "left padding reads a block of somebody's")
    blocks = {tuple(asked[name].shape[:2]) for name in kv}
    rule(len(blocks) == 1, "caches of several sizes")
    ((number, size),) = blocks
    rule(size == 64 and card.blocks in (None, number), f"{number} blocks of {size}, and {card.blocks} are compiled in")
    rule(int(table.max()) < number and int(slots.max()) < number * 64, "a block that is not there")
    card.blocks = number
    return kv


def marks(tensor, static, dynamic):
    statics = set(getattr(tensor, "_dynamo_static_indices", None) or ())
    dynamics = set(getattr(tensor, "_dynamo_dynamic_indices", None) or ())
    rule(statics == set(static), f"static marks {statics}, and they are {set(static)}")
    rule(dynamics == set(dynamic), f"dynamic marks {dynamics}, and they are {set(dynamic)}")


def over_the_card_s_cache(graph, arguments, kv, card):
    """Run with what the card has in place of the names that the host passes, and return new names."""
    places = [graph.names.index(name) for name in kv]
    passed = [arguments[place] for place in places]
    rule(not any(one is tensor for one in card.dead for tensor in passed), "a cache that an earlier call took over")
    known = [id(tensor) in card.ghosts for tensor in passed]
    rule(all(known) or not any(known), "new caches beside old ones")
    real = list(arguments)
    for place, tensor in zip(places, passed, strict=True):
        real[place] = card.ghosts[id(tensor)][1] if known[0] else tensor.clone()
    card.dead += [ghost for ghost, _ in card.ghosts.values()] + passed
    del card.dead[: -64 * len(kv)]
    outputs = list(graph.run(*real))
    shape = passed[0].shape
    caches = [index for index, one in enumerate(outputs) if isinstance(one, torch.Tensor) and one.shape == shape]
    rule(len(caches) == len(kv), f"{len(kv)} caches go in and {len(caches)} come out")
    for tensor in passed:
        tensor.fill_(float("nan"))
    card.ghosts = {}
    for index in caches:
        ghost = torch.full_like(outputs[index], float("nan"))
        card.ghosts[id(ghost)] = (ghost, outputs[index])
        outputs[index] = ghost
    return tuple(outputs)
