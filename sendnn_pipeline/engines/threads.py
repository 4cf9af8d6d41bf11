"""Torch's threads in a rank."""


def set_torch_threads(threads: int) -> int:
    """Tell torch, which reads its variable once, when another library may have been first; return its threads.

    Args:
        threads: of this process; 0 leaves them as they are.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
