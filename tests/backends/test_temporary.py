"""That compiling leaves nothing behind, whether it succeeds or not."""

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from sendnn_pipeline.backends.base import Graph, Input
from sendnn_pipeline.backends.compiler import CACHE_VARIABLE, PREFIX
from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.programs.program import Dim, Program


class Doubled(nn.Module):
    def forward(self, numbers):
        return (numbers * 2,)


class Untraceable(nn.Module):
    def forward(self, numbers):
        return (numbers * 2,) if numbers.sum() > 0 else (numbers,)


def graph(module):
    inputs = (Input("numbers", torch.ones(4)),)
    return Graph(Program("double", (Dim("n", 4),)), build=lambda: module, inputs=inputs, outputs=("doubled",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def left(folder: Path) -> list[str]:
    gc.collect()
    return [path.name for path in folder.glob(f"{PREFIX}*")]


@pytest.mark.slow
def test_the_folder_is_there_until_the_program_is_saved_and_the_call_needs_it_no_more(folder):
    compiled = InductorBackend(InductorConfig(name="inductor")).compile(graph(Doubled()))
    (kept,) = left(folder)
    # What it was built from, weights included where they are frozen, does not wait for that.
    assert [path.name for path in (folder / kept).iterdir()] == ["program.so"]
    (folder / "saved").mkdir()
    compiled.save(folder / "saved")
    call = compiled.bind({})
    del compiled
    assert left(folder) == []
    assert call(torch.full((4,), 3.0))[0].tolist() == [6.0] * 4


def test_what_cannot_be_compiled_leaves_none(folder):
    with pytest.raises(BackendError, match=r"double\[n=4\] cannot be traced"):
        InductorBackend(InductorConfig(name="inductor")).compile(graph(Untraceable()))
    assert left(folder) == []
