"""``plugins/vision``: an architecture and a device, added by hooks alone."""

import os

import pytest
from transformers import CLIPImageProcessorPil, LlamaConfig, LlavaConfig

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import ConfigError, EngineError
from tests.conftest import resolved_run
from tests.emulators.install import install
from tests.generation.cores import Core
from tests.multimodal import vision_models
from tests.multimodal.test_vision_models import GREEDY, WORDS, encoded, reference
from tests.multimodal.vision_models import CLIP, IMAGE, TEXT, file_of, make_vision_model, picture

SQUARE = {"height": 32, "width": 32}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for entry in reversed(install("../../plugins/vision", tmp_path / "site").split(os.pathsep)):
        monkeypatch.syspath_prepend(entry)
    llava = (
        lambda: LlavaConfig(vision_config=CLIP, text_config=LlamaConfig(**TEXT), image_token_id=IMAGE),
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
        {"patch_size": 8},
        "<image>",
    )
    monkeypatch.setitem(vision_models.MODELS, "llava", llava)
    return make_vision_model(tmp_path / "model", "llava")


def test_an_architecture_of_a_plugin_is_transformers_own(folder):
    resolved = resolved_run([*WORDS, f"model.path={folder}"])
    core, files = Core(resolved), [file_of(picture(70, 40)), file_of(picture(32, 90))]
    ids, images = encoded(core, "<image>", files)
    core.ask(1, [ids], GREEDY, 8, images=images)
    core.drain()
    assert core.tokens(1) == reference(folder, resolved, ids, files, 8)[0]


def test_a_device_of_a_plugin_is_chosen_by_name_alone(folder, tmp_path, monkeypatch):
    from sendnn_vision.cuda import CudaDevice

    words = [*WORDS, f"model.path={folder}"]
    assert resolved_run(words).run.config.multimodal.device == "cpu"
    monkeypatch.setattr(CudaDevice, "driver", tmp_path / "none")
    with pytest.raises(ConfigError, match="there is no NVIDIA driver"):
        resolved_run([*words, "multimodal.device=cuda"])
    monkeypatch.setattr(CudaDevice, "driver", folder / "config.json")
    resolved = resolved_run([*words, "multimodal.device=cuda"])
    with pytest.raises(EngineError, match=r"multimodal\.device=cuda cannot be used"):
        resolved.engine.open(resolved.run, World())
