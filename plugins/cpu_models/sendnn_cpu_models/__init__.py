"""Decoders inside packages as models of embeddings, and known configurations for CPUs."""
