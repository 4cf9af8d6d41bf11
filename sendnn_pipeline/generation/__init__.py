"""Text generation: what runs next, and where its keys and values go (README here). No decision imports torch."""
