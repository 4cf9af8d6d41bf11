"""Classifiers compiled by inductor, opened from what it keeps, against transformers' own output."""

import asyncio

import numpy as np
import pytest
import torch

from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.models.loader import load_classifier
from sendnn_pipeline.models.weights import load_weights
from sendnn_pipeline.pooling.function import ClassifyFunction
from sendnn_pipeline.pooling.graphs import pool_graph
from sendnn_pipeline.pooling.runner import PoolingRunner
from sendnn_pipeline.programs.program import plan_pooling
from sendnn_pipeline.server.cut import Cut
from sendnn_pipeline.server.tokenizer import load_tokenizer
from tests.classifiers import PROSE, make_classifier, reference_logits
from tests.conftest import resolved_run

QUERY = "what is an attribute reference?"
DOCUMENTS = ["a primary followed by a name", "x", PROSE[3][:120], PROSE[9][40:100], PROSE[11][:60]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_pairs_through_a_compiled_range(kind, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    make_classifier(folder, kind, 1)
    words = ["model=local", f"model.path={folder}", "backend=inductor", f"cache_dir={tmp_path}", "model.dtype=float32"]
    run = resolved_run(words).run
    (program,) = plan_pooling(run.shapes).programs
    assert program.is_range
    weights = load_weights(run.model.weight_files, "float32")
    function = ClassifyFunction(load_classifier(folder, "float32"))
    graph = pool_graph(program, function, weights, run.model.pad_token_id, token_types=run.token_types)
    backend = InductorBackend()
    with torch.no_grad():
        made = backend.compile(graph, run)
    (tmp_path / "kept").mkdir()
    backend.save(made, tmp_path / "kept")
    items, second_at = asyncio.run(load_tokenizer(folder).encode_pairs([QUERY], DOCUMENTS, Cut()))
    expected = reference_logits(folder, [(QUERY, document) for document in DOCUMENTS])
    for compiled in (made, backend.load(tmp_path / "kept", weights, run)):
        runner = PoolingRunner(
            {program: compiled}, lambda rows: rows.isfinite().all(dim=1), run.model.pad_token_id, run.token_types
        )
        together, finite = runner.run(program, items, second_at)
        assert all(finite) and np.abs(together.double().numpy() - expected).max() < 1e-4
        alone, _ = runner.run(program, items[:1], second_at[:1])
        assert np.abs(alone.double().numpy() - expected[:1]).max() < 1e-4
