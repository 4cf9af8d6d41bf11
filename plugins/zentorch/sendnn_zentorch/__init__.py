"""``backend=zentorch``: AMD's ZenDNN on top of PyTorch's compiler."""
