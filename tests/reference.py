"""The independent reference: mean pooling of transformers' own fp32 output, one text at a time, without padding."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def mean_pooled(folder: Path, texts: list[str]) -> np.ndarray:
    """Return unit vectors ``[texts, dimensions]`` in float64."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            vector = model(**inputs).last_hidden_state[0].mean(dim=0)
        rows.append((vector / vector.norm()).double().numpy())
    return np.stack(rows)
