"""A model source for GGUF files inside packages, and known configurations for CPUs."""
