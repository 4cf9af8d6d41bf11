"""Which variables the device's library finds: the run's sizes, a known configuration's values, the user's own."""

import json
from dataclasses import replace

import pytest

from sendnn_pipeline.backends.base import Bounds
from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.backends.sendnn.backend import SendnnBackend
from sendnn_pipeline.backends.sendnn.versions import expected_torch, library_version
from sendnn_pipeline.errors import BackendError, ConfigError

POOLING, DECODER = Bounds(512, 64), Bounds(3072, 16, 512)


def variables(bounds, environ=None, limit=None, **known):
    backend = SendnnBackend(SendnnConfig(name="sendnn", environment=known, max_batch_tkv=limit))
    return backend.environment(bounds, environ or {})


def test_pooling_and_decoders_are_told_their_kind_and_sizes():
    assert variables(POOLING) == {
        "COMPILATION_MODE": "offline",
        "FLEX_OVERWRITE_NMB_FRAME": "false",
        "VLLM_DT_MAX_CONTEXT_LEN": "512",
        "VLLM_DT_MAX_BATCH_SIZE": "64",
        "VLLM_DT_MAX_BATCH_TKV_LIMIT": "32768",
    }
    assert variables(DECODER) == {
        "COMPILATION_MODE": "offline_decoder",
        "FLEX_OVERWRITE_NMB_FRAME": "true",
        "VLLM_DT_MAX_CONTEXT_LEN": "3072",
        "VLLM_DT_MAX_BATCH_SIZE": "16",
        "VLLM_DT_MAX_BATCH_TKV_LIMIT": "49152",
        "VLLM_DT_CHUNK_LEN": "512",
    }
    assert variables(Bounds(64, 1))["VLLM_DT_MAX_BATCH_SIZE"] == "2"


def test_the_user_s_device_values_stay_and_the_run_s_sizes_do_not_depend_on_them():
    known = {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "131072", "FLEX_HDMA_P2PSIZE": "268435456"}
    told = variables(DECODER, {"FLEX_HDMA_P2PSIZE": "1", "VLLM_DT_MAX_CONTEXT_LEN": "9"}, **known)
    assert told["VLLM_DT_MAX_BATCH_TKV_LIMIT"] == "131072" and told["FLEX_HDMA_P2PSIZE"] == "1"
    assert told["VLLM_DT_MAX_CONTEXT_LEN"] == "3072"
    limit = "VLLM_DT_MAX_BATCH_TKV_LIMIT"
    assert variables(DECODER, limit=65536, **known)[limit] == "65536"
    assert variables(replace(DECODER, max_batch_tkv=4096), limit=65536, **known)[limit] == "65536"
    assert variables(replace(DECODER, max_batch_tkv=4096))[limit] == "4096"
    with pytest.raises(BackendError, match=r"backend\.environment has VLLM_DT_MAX_BATCH_TKV_LIMIT=few, not a number"):
        variables(DECODER, VLLM_DT_MAX_BATCH_TKV_LIMIT="few")


def test_decoders_that_must_be_compiled_already_are_somewhere():
    precompiled = replace(DECODER, precompiled=True)
    with pytest.raises(BackendError, match=r"require_precompiled_decoders=true, and nothing says where they are"):
        variables(precompiled)
    kept = {"TORCH_SENDNN_CACHE_ENABLE": "1", "TORCH_SENDNN_CACHE_DIR": "/kept"}
    assert variables(precompiled, kept)["DISABLE_COMPILATION"] == "true"
    assert "DISABLE_COMPILATION" not in variables(DECODER, kept)


def test_a_known_configuration_s_values_reach_the_library_before_it_is_imported(tiny, card, tmp_path):
    file = tmp_path / "mine.json"
    known = {"FLEX_HDMA_P2PSIZE": "268435456", "FLEX_HDMA_COLLSIZE": "33554432"}
    runtime = {"warmup.shapes": ["64x2"], "backend.environment": known}
    entry = {"name": "mine", "match": {"model_type": "bert"}, "backends": ["sendnn"], "runtimes": [runtime]}
    file.write_text(json.dumps(entry))
    words = (f"model.path={tiny}", f"known.file={file}", "pipeline=precompile")
    card.run(*words, FLEX_HDMA_COLLSIZE="7")
    captured = card.device.environment.captured
    assert captured["FLEX_HDMA_P2PSIZE"] == "268435456" and captured["FLEX_HDMA_COLLSIZE"] == "7"
    notices = card.resolve(*words, FLEX_HDMA_COLLSIZE="7").draft.notices
    assert any("FLEX_HDMA_COLLSIZE=33554432, and the environment 7" in notice for notice in notices)
    with pytest.raises(ConfigError, match=r"known.require=true, and .* FLEX_HDMA_COLLSIZE=33554432"):
        card.resolve(*words, "known.require=true", FLEX_HDMA_COLLSIZE="7")


def test_versions_are_read_without_an_import(card, tmp_path, monkeypatch):
    assert library_version() == "1.2.0"
    bare = tmp_path / "bare" / "torch_sendnn"
    bare.mkdir(parents=True)
    (bare / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr("sys.path", [str(bare.parent)])
    assert library_version() == ""
    (bare / "_version.py").write_text('__version__ = version = "1.1.0+abc"\n')
    assert library_version() == "1.1.0+abc"
    assert [expected_torch(text) for text in ("1.1.0+abc", "1.2.0", "1.20.0", "")] == ["2.7.1", "2.10.0", "", ""]
