"""OpenVINO on the graph that the ONNX Runtime peer exports. Settings: threads, batch_size, streams, precision."""

import tempfile
from pathlib import Path

import numpy as np
from onnx_runtime_peer import export
from protocol import batches_by_length, mean_of_real, offer, padded, read_tokenizer


def load(folder, settings):
    import openvino

    plain = Path(tempfile.mkdtemp()) / "plain.onnx"
    export(folder, plain)
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": settings["threads"],
        "NUM_STREAMS": settings["streams"],
        "INFERENCE_PRECISION_HINT": settings["precision"],
    }
    model = core.compile_model(core.read_model(str(plain)), "CPU", options)
    tokenizer = read_tokenizer(folder)

    def embed(texts):
        encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        vectors = [None] * len(texts)

        def keep(request, given):
            places, mask = given
            hidden = request.get_output_tensor(0).data
            for place, vector in zip(places, mean_of_real(hidden, mask), strict=True):
                vectors[place] = vector

        queue = openvino.AsyncInferQueue(model, settings["streams"])
        queue.set_callback(keep)
        for places in batches_by_length([len(ids) for ids in encoded], settings["batch_size"]):
            ids, mask = padded([encoded[place] for place in places])
            queue.start_async([ids, mask], (places, mask))
        queue.wait_all()
        return np.stack(vectors)

    return embed


if __name__ == "__main__":
    offer(load)
