"""Declarative load, compile, warmup and serve of models on compiled, static-shape accelerators."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sendnn_pipeline")
except PackageNotFoundError:  # a bare checkout on PYTHONPATH
    __version__ = "0+checkout"
