"""``python -m sendnn_cpu_models.convert FILE FOLDER``: a GGUF file as a folder that sendnn_pipeline loads."""

import json
import sys
from pathlib import Path

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def main() -> None:
    """Write float32 weights, the tokenizer, and how texts become vectors: the mean of the last hidden states."""
    file, folder = map(Path, sys.argv[1:])
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, local_files_only=True)
    # What was read counts as quantized, and is not saved; a plain model of the same weights is.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, local_files_only=True)
    tokenizer.save_pretrained(folder)
    (folder / "modules.json").write_text(json.dumps(MODULES), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}), encoding="utf-8")


if __name__ == "__main__":
    main()
