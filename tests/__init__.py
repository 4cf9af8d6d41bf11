"""Tests and benchmarks. What they import asks the CPU as the tests say: see processes/cpu_answer.py."""

from tests.processes import cpu_answer

cpu_answer.install()
