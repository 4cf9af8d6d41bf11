"""What takes long to check costs those who ask for it, and nobody is checked twice."""

import asyncio

from sendnn_pipeline.frontend.checked import Checked


def test_what_is_checked_quickly_waits_for_nothing_slow_and_is_known_from_then_on():
    async def ask() -> None:
        checked, go_on, asked = Checked(), asyncio.Event(), []

        async def check(text: str, quick: bool) -> str | None:
            asked.append((text, quick))
            if text.startswith("slow"):
                if quick:
                    return None
                await go_on.wait()
            return f"of {text}"

        slow = [asyncio.create_task(checked.once(f"slow{number}", check)) for number in (*range(9), 0)]
        async with asyncio.timeout(9):
            assert [await checked.once("fine", check) for _ in range(2)] == ["of fine"] * 2
            assert not any(task.done() for task in slow)
            go_on.set()
            assert await asyncio.gather(*slow) == [f"of slow{number}" for number in (*range(9), 0)]
        assert asked.count(("fine", True)) == 1 and ("fine", False) not in asked
        assert asked.count(("slow0", False)) == 1

    asyncio.run(ask())
