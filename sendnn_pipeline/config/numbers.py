"""Numbers that several groups of keys have."""

from typing import Annotated

from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
