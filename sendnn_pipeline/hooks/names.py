"""What can be the name of a part or an option."""

import re

# What stands for another value on a command line or in YAML, and for whatever is chosen.
RESERVED = ("null", "true", "false", "yes", "no", "on", "off", "nan", "inf", "auto")


def is_name(name: object) -> bool:
    """Return whether a run can choose something by this name: it is text, wherever it is written without quotes."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        return False
    return name.lower() not in RESERVED and not _is_number(name)


def _is_number(text: str) -> bool:
    for read in (float, lambda text: int(text, 0)):
        try:
            read(text)
        except ValueError:
            continue
        return True
    return False
