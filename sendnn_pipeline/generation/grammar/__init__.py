"""Answers that a grammar decides: llguidance in processes of its own, as what a request brings may be an attack."""
