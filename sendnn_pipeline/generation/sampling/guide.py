"""What a grammar lets come next, in logits."""

from dataclasses import dataclass

import numpy as np
import torch

from sendnn_pipeline.generation.grammar.grammars import Grammars


@dataclass(frozen=True)
class Guide:
    """One answer that follows a grammar."""

    grammars: Grammars
    text_id: int

    def apply(self, logits: torch.Tensor) -> bool:
        """Leave what may come in ``logits`` ``[vocabulary]``; return whether that is an end alone.

        Raises:
            ValueError: the grammar failed.
        """
        mask = self.grammars.mask(self.text_id)
        if mask.error:
            raise ValueError(mask.error)
        allowed = np.unpackbits(np.frombuffer(mask.bits, np.uint8), count=len(logits), bitorder="little")
        logits.masked_fill_(torch.from_numpy(allowed == 0), -torch.inf)
        return mask.complete

    def advance(self, token_id: int) -> None:
        """Take the next token, one that ``apply`` has left."""
        self.grammars.advance(self.text_id, token_id)

    def end(self) -> None:
        """Forget the answer."""
        self.grammars.end(self.text_id)


def begin_guide(grammars: Grammars, text_id: int, grammar: str) -> Guide | None:
    """Begin an answer, if it follows a grammar."""
    if not grammar:
        return None
    grammars.begin(text_id, grammar)
    return Guide(grammars, text_id)
