"""How machines hear of each other's end; here all are this one, on the loopback."""

import asyncio
import socket

import pytest

from sendnn_pipeline.distributed.link import Link
from sendnn_pipeline.distributed.ranks import Ranks
from sendnn_pipeline.errors import EngineError


async def come_by(host, port):
    """Connect as somebody who looks for open ports, and as one who takes this for something else."""
    for words in (b"", b"GET / HTTP/1.0\r\n\r\n" * 9):
        with socket.create_connection((host, port)) as stranger:
            stranger.sendall(words)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(("word", "reason"), [("broken", "node 1: broken"), ("", ""), (None, "node 1 is gone")])
def test_a_link_hears_how_another_node_ends_and_no_stranger(word, reason):
    async def main():
        here, there = Link(), Link()
        try:
            told = here.listen(1, "127.0.0.1")
            ending = asyncio.create_task(here.end_of(1))
            host, port = told.split()[0].removeprefix("tcp://").split(":")
            await come_by(host, int(port))
            # One that is there before the other node, and leaves after it came.
            with socket.create_connection((host, int(port))):
                await asyncio.sleep(0.1)
                there.connect(told)
                await asyncio.sleep(0.2)
            await come_by(host, int(port))
            assert not ending.done()
            if word is not None:
                await there.say(word)
            # Of a process that is killed, the kernel closes them without a word.
            there._told = True
            there.close()
            return await asyncio.wait_for(ending, 30)
        finally:
            here.close()
            there.close()

    assert asyncio.run(main()) == reason


class Staying:
    """A rank that says nothing and stays."""

    async def messages(self):
        await asyncio.Event().wait()
        yield


@pytest.mark.parametrize("first", [1, 2])
def test_of_nodes_that_end_the_first_to_do_so_is_the_cause(first):
    async def main():
        here, others = Link(), {1: Link(), 2: Link()}
        try:
            for node, there in others.items():
                there.connect(here.listen(node, "127.0.0.1"))
            ending = asyncio.create_task(anext(Ranks([Staying()], here).messages()))
            await others[first].say("broken")
            await asyncio.sleep(0.2)
            await others[3 - first].say("broken by that")
            await asyncio.wait_for(ending, 30)
        finally:
            for link in (here, *others.values()):
                link.close()

    with pytest.raises(EngineError, match=f"^node {first}: broken$"):
        asyncio.run(main())
