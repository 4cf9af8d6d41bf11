"""``backend=jit``: Programs compiled when they first run."""
