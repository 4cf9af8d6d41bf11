"""sentence-transformers, eager torch. Settings: dtype, threads, batch_size."""

import numpy as np
from protocol import offer


def load(folder, settings):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(settings["threads"])
    dtype = getattr(torch, settings["dtype"])
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})

    def embed(texts):
        vectors = model.encode(
            texts, batch_size=settings["batch_size"], convert_to_tensor=True, normalize_embeddings=True
        )
        return np.asarray(vectors.float())

    return embed


if __name__ == "__main__":
    offer(load)
