"""Python imports this at the start of every process that has this folder on its path: each one that the tests start."""

import cpu_answer

cpu_answer.install()
