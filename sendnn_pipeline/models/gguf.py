"""``python -m sendnn_pipeline.models.gguf FILE FOLDER``: a decoder's GGUF file as a folder that transformers loads."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.gguf_numbers import read_quantized
from sendnn_pipeline.programs.quantized import FILE

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Names of llama.cpp for how texts are split before byte pairs are merged: as GPT-2 does it, or every digit by itself.
GPT2, DIGITS = ("gpt-2",), ("smollm", "starcoder", "refact", "codeshell")
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def convert(file: Path, folder: Path) -> None:
    """Write weights in bfloat16 and as the file has them, the configurations, and the tokenizer with its chat template.

    Args:
        file: the GGUF file.
        folder: is made.

    Raises:
        ModelError: texts cannot be split as the file asks for.
        ValueError: transformers does not know the architecture, or the tokenizer.
    """
    tokenizer = read_tokenizer(file)
    read_model(file).save_pretrained(folder)
    write_quantized(file, folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    for weights in folder.rglob("*.safetensors"):
        # They come readable by their owner alone.
        shutil.copymode(folder / "config.json", weights)


def read_model(file: Path) -> "PreTrainedModel":
    """Return the model with its weights in bfloat16, rounded once from what the file's blocks say."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    read: Any = AutoModelForCausalLM.from_pretrained(
        str(file.parent),
        gguf_file=file.name,
        local_files_only=True,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    # What was read counts as quantized, and is not saved; a plain model of the same weights is.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain: Any = type(read)(config)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    return plain  # type: ignore[no-any-return]


def write_quantized(file: Path, folder: Path) -> None:
    """Write the numbers that the weights of ``folder`` were made of."""
    from safetensors.torch import load_file, save_file

    parts: dict[str, torch.Tensor] = {}
    for weights in folder.glob("*.safetensors"):
        parts |= read_quantized(file, load_file(weights))
    if parts:
        (folder / FILE).parent.mkdir()
        save_file(parts, folder / FILE)


def read_tokenizer(file: Path) -> "PreTrainedTokenizerFast":
    """Return the tokenizer, its special tokens and its chat template.

    Raises:
        ModelError: it splits texts in a way that is not known here.
    """
    from gguf import GGUFReader
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read: Any = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, local_files_only=True)
    pre = GGUFReader(file).get_field("tokenizer.ggml.pre")
    settle_split(read.backend_tokenizer, str(pre.contents()) if pre else "")
    # Of no class of its own: those make their splitting again when they are loaded, and lose this one.
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=read.backend_tokenizer,
        chat_template=read.chat_template,
        clean_up_tokenization_spaces=False,
        **{name: getattr(read, name) for name in SPECIAL},
    )


def settle_split(tokenizer: "Tokenizer", name: str) -> None:
    """Have ``tokenizer`` split texts as ``name`` says; transformers splits as GPT-2 does what it does not know.

    Raises:
        ModelError: it is neither known there nor here.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    if not isinstance(tokenizer.pre_tokenizer, ByteLevel) or name in GPT2:
        return
    if name not in DIGITS:
        raise ModelError(f"how its tokenizer splits texts, {name or 'which it does not say'}, is not known")
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


if __name__ == "__main__":
    try:
        convert(*map(Path, sys.argv[1:]))
    except ModelError as error:
        sys.exit(error.message)
