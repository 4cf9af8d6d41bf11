"""That the workers get the groups: where they do not, nothing fails, and every worker makes everything anew."""

import os

import pytest

from tests.distribution import group_of


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there are no workers")
@pytest.mark.xdist_group("a group")
def test_the_group_is_in_the_name_by_which_the_scheduler_knows_a_test(request):
    assert request.node.nodeid.endswith("@a group")


@pytest.fixture(scope="module")
def shared():
    return "once"


@pytest.mark.parametrize("server", ["served_tiny", "served_minilm"])
def test_a_server_is_a_group_also_where_a_parameter_names_it(request, server):
    assert group_of(request.node) == server


def test_a_file_with_a_fixture_of_its_own_is_a_group(request, shared):
    assert group_of(request.node) == __file__


def test_what_needs_nothing_of_others_runs_anywhere(request, tmp_path):
    assert group_of(request.node) == ""
