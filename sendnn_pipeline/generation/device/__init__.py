"""Generation on a device that takes a decoder whole: one graph for a chunk of a prompt, one for a token of several."""
