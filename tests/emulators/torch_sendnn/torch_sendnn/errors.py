"""What a broken rule is."""


class DeviceError(RuntimeError):
    """A rule of the device is broken."""
