"""That compiling leaves nothing behind where it fails; where it succeeds, see test_export.py."""

import gc

import pytest
import torch
from torch import nn

from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.backends.compiler import CACHE_VARIABLE, PREFIX
from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.programs.program import Dim, Program


class Untraceable(nn.Module):
    def forward(self, numbers):
        return (numbers * 2,) if numbers.sum() > 0 else (numbers,)


def graph(module):
    inputs = (Input("numbers", torch.ones(4)),)
    return Graph(Program("double", (Dim("n", 4),)), build=lambda: module, inputs=inputs, outputs=("doubled",))


def test_what_cannot_be_compiled_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(BackendError, match=r"double\[n=4\] cannot be traced"):
        InductorBackend(InductorConfig(name="inductor")).compile(graph(Untraceable()))
    gc.collect()
    assert not list(tmp_path.glob(f"{PREFIX}*"))
