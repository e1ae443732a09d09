"""Between who gets a token and who waits for it: in order, nothing lost, and who is cancelled takes nothing along."""

import asyncio

from selector.serve.mailbox import Mailbox


async def take(box: Mailbox[int], count: int) -> list[int]:
    return [await box.take() for _ in range(count)]


def test_what_comes_is_taken_in_its_order() -> None:
    async def play() -> None:
        box = Mailbox[int]()
        box.put(1)
        taking = asyncio.create_task(take(box, 4))
        await asyncio.sleep(0)
        box.put(2)
        box.put(3)
        await asyncio.sleep(0.001)
        assert not taking.done()
        box.put(4)
        assert await taking == [1, 2, 3, 4]
        assert not box

    asyncio.run(play())


def test_who_is_cancelled_takes_nothing() -> None:
    async def play() -> None:
        box = Mailbox[int]()
        taking = asyncio.create_task(box.take())
        await asyncio.sleep(0)
        box.put(1)
        taking.cancel()
        await asyncio.wait({taking})
        assert taking.cancelled()
        assert box
        assert await box.take() == 1

    asyncio.run(play())
