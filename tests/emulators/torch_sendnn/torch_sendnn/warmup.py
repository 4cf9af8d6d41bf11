"""The context in which graphs are traced; leaving it compiles them."""

from types import TracebackType

from torch_sendnn.device import device


class warmup_mode:
    """Traces within; on exit all graphs are compiled together, also where the block failed."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        if enabled:
            # Here and not on entering, as the original does.
            device.start_warmup()

    def __enter__(self) -> "warmup_mode":
        device.entered = self.enabled
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            device.compile()
