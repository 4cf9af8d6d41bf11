"""That nothing runs in inference mode: tensors made there are updated nowhere else, as a device's cache has to be."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_source_enters_inference_mode_and_what_computes_goes_without_gradients():
    files = [file for folder in ("sendnn_pipeline", "plugins") for file in (ROOT / folder).rglob("*.py")]
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    assert [name for name, text in texts.items() if "inference_mode" in text] == []
    assert "torch.no_grad()" in texts["sendnn_pipeline/pooling/runner.py"]
