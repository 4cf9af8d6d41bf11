"""One rank of node 0 admits the other nodes, for all ranks beside it."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sendnn_pipeline.distributed.nodes import Node, join
from sendnn_pipeline.errors import EngineError

NODE = Node(0, 2, "head:1", {"torch": "2.13"}, 0.3, {1: "a link"})


class Memory:
    """A store in this process."""

    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def set(self, key, value):
        with self.changed:
            self.values[key] = value.encode()
            self.changed.notify_all()

    def get(self, key):
        return self.values[key]

    def wait(self, keys, timeout):
        with self.changed:
            if not self.changed.wait_for(lambda: self.check(keys), timeout.total_seconds()):
                raise RuntimeError("timeout")

    def add(self, key, amount):
        self.values[key] = self.values.get(key, 0) + amount
        return self.values[key]

    def check(self, keys):
        return all(key in self.values for key in keys)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_all_ranks_of_node_0_are_of_one_mind_about_a_node_that_comes_late(pool):
    store = Memory()
    first = pool.submit(join, store, NODE, speaks=True)
    time.sleep(0.15)
    beside = pool.submit(join, store, NODE, speaks=False)
    time.sleep(0.2)
    store.set("sendnn/about/1", json.dumps(NODE.about))
    says = r"^node 1 did not come to head:1 within 0\.3 s; start it with its parallel\.node_rank"
    for rank in (first, beside):
        with pytest.raises(EngineError, match=says):
            rank.result(5)


@pytest.mark.parametrize("version", ["2.13", "2.12"])
def test_ranks_of_both_nodes_hear_what_it_decides(pool, version):
    store, other = Memory(), replace(NODE, rank=1, about={"torch": version}, links={})
    joining = [pool.submit(join, store, node, speaks=speaks) for node in (NODE, other) for speaks in (False, True)]
    if version == "2.13":
        assert [rank.result(5) for rank in joining] == ["", "", "a link", "a link"]
        return
    for rank in joining:
        with pytest.raises(EngineError, match=r"torch is 2\.12 there and 2\.13 on node 0; set the same on all nodes"):
            rank.result(5)
