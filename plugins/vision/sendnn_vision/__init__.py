"""LLaVA 1.5 and CUDA devices, for images."""
