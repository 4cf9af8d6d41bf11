"""What torch's autoload would run."""

import os
import pathlib

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import torch_nnpa
from torch_nnpa import _kernels

_libraries = []


def load():
    if torch_nnpa._FAILS == "register":
        raise RuntimeError("nnpa: no hooks interface")
    if _libraries:
        raise RuntimeError("nnpa: registered a second time")
    _setup_privateuseone_for_python_backend("nnpa")
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in _kernels.KERNELS.items():
        library.impl(name, kernel, "PrivateUse1")
    _libraries.append(library)
    if "TORCH_NNPA_LOG" in os.environ:
        with pathlib.Path(os.environ["TORCH_NNPA_LOG"]).open("a") as log:
            log.write(f"{os.environ.get('RANK', '-')} {os.getpid()}\n")
