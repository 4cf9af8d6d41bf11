"""Prompts: texts that the model's files have put before others, on every way in."""

from sendnn_pipeline.frontend.endpoint import Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.truncation import Side
from sendnn_pipeline.pooling.api.field import INPUT, Field
from sendnn_pipeline.pooling.api.inputs import EmbeddingInput, encode_inputs, plan_of, prepare_items

# Prompts that stand for what a text is, the first that the model has, as sentence-transformers chooses them.
OF_INPUT_TYPE = {
    "query": ("query",),
    "search_query": ("query", "search_query"),
    "document": ("document", "passage", "corpus"),
    "passage": ("document", "passage", "corpus"),
    "search_document": ("document", "passage", "corpus", "search_document"),
    "classification": ("classification",),
    "clustering": ("clustering",),
    "image": ("image",),
}


def prompt_of(front: Frontend, name: str | None = None, input_type: str | None = None) -> str:
    """Return the text that goes before each input: the named prompt, that of an input type, or the run's own.

    Args:
        front: knows the model's prompts.
        name: ``prompt_name``.
        input_type: what the texts are; a type for which the model has no prompt changes nothing.

    Raises:
        RequestError: 400, both are named, the model has no such prompt, or nothing is known of such a type.
    """
    plan = plan_of(front)
    prompts = plan.facts.prompts
    if name is not None and input_type is not None:
        raise RequestError(
            400, "prompt_name and input_type both choose the prompt; send one", param="input_type", code="invalid_value"
        )
    if name is not None:
        if name not in prompts:
            known = f"it has {', '.join(prompts)}" if prompts else "it has none"
            message = f"the model has no prompt {name}; {known}"
            raise RequestError(400, message, param="prompt_name", code="invalid_value")
        return prompts[name]
    if input_type is not None:
        names = OF_INPUT_TYPE.get(input_type, (input_type,) if input_type in prompts else ())
        if not names:
            message = f"input_type={input_type} must be one of {', '.join({**OF_INPUT_TYPE, **prompts})}"
            raise RequestError(400, message, param="input_type", code="invalid_value")
        return next((prompts[known] for known in names if known in prompts), plan.prompt)
    return plan.prompt


def prompt_before(
    front: Frontend, inputs: EmbeddingInput, name: str | None = None, input_type: str | None = None
) -> str:
    """Return the text that goes before each of ``inputs``, as ``prompt_of`` does.

    Raises:
        RequestError: 400, as of ``prompt_of``; or a prompt is asked for before token ids.
    """
    prompt = prompt_of(front, name, input_type)
    asked = "prompt_name" if name is not None else "input_type" if input_type is not None else ""
    if asked and prompt and not _has_texts(inputs):
        message = f"{asked} puts a prompt before texts, and the input is token ids: put the prompt's before them"
        raise RequestError(400, message, param=asked, code="invalid_value")
    return prompt


def _has_texts(inputs: EmbeddingInput) -> bool:
    return isinstance(inputs, str) or (bool(inputs) and isinstance(inputs[0], str))


async def prepare_texts(
    front: Frontend,
    inputs: EmbeddingInput,
    truncate: int | None,
    *,
    prompt: str,
    field: Field = INPUT,
    side: Side = "right",
    special: bool = True,
) -> Prepared:
    """Return what the engine is sent for texts with their prompt; arguments as of ``encode_inputs``.

    Raises:
        RequestError: 400, naming the field or the one item that is at fault.
    """
    items = await encode_inputs(front, inputs, truncate, field=field, side=side, prompt=prompt, special=special)
    if not prompt or not _has_texts(inputs) or not plan_of(front).excludes_prompt:
        return prepare_items(items, field, field.item)
    if not special:
        raise RequestError(
            400,
            "the model pools no token of its prompt, so that a text has its special tokens",
            param="add_special_tokens",
            code="invalid_value",
        )
    if side == "left":
        raise RequestError(
            400,
            "the model pools no token of its prompt, so that no text is cut on its left",
            code="invalid_value",
        )
    before = await front.tokenizer.count_before(prompt)
    return prepare_items(items, field, field.item, [min(before, len(ids)) for ids in items])
