"""The independent reference: transformers' own output, one text at a time, without padding; in float32, or rounded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

# Of two computations of one model in bfloat16, one may be this much further from float32 than the other: they round
# in other places. What differs in more than its rounding is further off by orders of magnitude.
MOST_ROUNDING = 1.5
# Below this share of transformers' own distance a result was not computed in bfloat16.
LEAST_ROUNDING = 0.2


def mean_pooled(folder: Path, texts: list[str], dtype: str = "float32") -> np.ndarray:
    """Return unit vectors ``[texts, dimensions]`` in float64."""
    encoded = AutoTokenizer.from_pretrained(folder)(texts, truncation=True, max_length=256)
    return mean_pooled_ids(folder, encoded["input_ids"], dtype)


def mean_pooled_ids(folder: Path, rows: list[list[int]], dtype: str = "float32") -> np.ndarray:
    """Return unit vectors of token ids."""
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    return np.stack([unit_mean(model, row) for row in rows])


def unit_mean(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """Return the unit vector of one text, pooled in float32 as sentence-transformers pools."""
    with torch.no_grad():
        vector = model(input_ids=torch.tensor([ids])).last_hidden_state[0].float().mean(dim=0)
    return (vector / vector.norm()).double().numpy()


@dataclass(frozen=True)
class Rounding:
    """How far transformers' bfloat16 output is from its float32 output: the tolerance for ours, on any CPU."""

    exact: np.ndarray
    """In float32."""
    rounded: np.ndarray
    """In bfloat16."""

    @classmethod
    def of(cls, reference: Callable[[str], np.ndarray]) -> "Rounding":
        """Ask for both."""
        return cls(reference("float32"), reference("bfloat16"))

    def through(self, function: Callable[[np.ndarray], np.ndarray]) -> "Rounding":
        """Return what becomes of both by what follows the model, such as a sigmoid."""
        return Rounding(function(self.exact), function(self.rounded))

    def check(self, found: object) -> None:
        """Fail unless ``found`` is as far from float32 as bfloat16 is: no further, and not nearer either."""
        ours = np.asarray(found, dtype=np.float64)
        assert ours.shape == self.exact.shape
        share = _distance(ours, self.exact) / _distance(self.rounded, self.exact)
        assert share <= MOST_ROUNDING, f"{share:.2f} times as far from float32 as transformers' own bfloat16"
        assert share >= LEAST_ROUNDING, f"{share:.2f} of transformers' own distance: this was not computed in bfloat16"


def _distance(left: np.ndarray, right: np.ndarray) -> float:
    """Return the root of the mean square of all differences: of few numbers the largest says little."""
    return float(np.sqrt(((left - right) ** 2).mean()))
