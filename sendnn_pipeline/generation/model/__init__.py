"""A decoder of transformers over a paged KV cache."""
