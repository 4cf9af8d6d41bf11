"""Python imports this at the start of every process that has this folder on its path: each one that the tests start."""

import os

import cpu_answer

cpu_answer.install()
if "COVERAGE_PROCESS_CONFIG" in os.environ:
    # Its coverage counts: see tests/served.py.
    from untraced import Untraced

    Untraced().leave_out()
