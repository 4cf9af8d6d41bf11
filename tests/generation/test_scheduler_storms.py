"""The scheduler's promises, on thousands of random workloads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendnn_pipeline.generation import content
from tests.generation.storm import Storm, arrivals, rules


@settings(max_examples=400, deadline=None)
@given(rules(), arrivals(), st.none() | st.integers(0, 60))
def test_every_storm_ends_well(rules, arrivals, failing_step):
    Storm(rules, arrivals, failing_step).run()


@settings(max_examples=100, deadline=None)
@given(rules(), arrivals())
def test_colliding_hashes_cost_hits_and_nothing_else(rules, arrivals):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "hash", lambda _: 1, raising=False)
        Storm(rules, arrivals).run()
