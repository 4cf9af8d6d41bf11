"""ONNX Runtime on a graph exported by torch, optimised by its own BERT fusions. Settings: threads, batch_size."""

import tempfile
from pathlib import Path

import numpy as np
from protocol import batches_by_length, mean_of_real, offer, padded, read_tokenizer


def export(folder: str, file: Path) -> None:
    import torch
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    # Two tensors: given one twice, the exporter takes both inputs for the same.
    ids, mask = torch.ones(2, 16, dtype=torch.int64), torch.ones(2, 16, dtype=torch.int64)
    batch, length = torch.export.Dim("batch", max=512), torch.export.Dim("length", max=512)
    dynamic = {name: {0: batch, 1: length} for name in ("input_ids", "attention_mask")}
    torch.onnx.export(
        Hidden(),
        (ids, mask),
        file,
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_shapes=dynamic,
        dynamo=True,
        external_data=False,
    )


def load(folder, settings):
    import onnxruntime
    from onnxruntime.transformers.optimizer import optimize_model

    plain = Path(tempfile.mkdtemp()) / "plain.onnx"
    export(folder, plain)
    file = plain
    if settings.get("fuse", True):
        file = plain.with_name("fused.onnx")
        optimize_model(str(plain), model_type="bert", num_heads=12, hidden_size=384).save_model_to_file(str(file))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    tokenizer = read_tokenizer(folder)

    def embed(texts):
        encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        vectors = [None] * len(texts)
        for places in batches_by_length([len(ids) for ids in encoded], settings["batch_size"]):
            ids, mask = padded([encoded[place] for place in places])
            (hidden,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
            for place, vector in zip(places, mean_of_real(hidden, mask), strict=True):
                vectors[place] = vector
        return np.stack(vectors)

    return embed


if __name__ == "__main__":
    offer(load)
