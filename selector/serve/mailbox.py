"""Mailbox: what has come and is not taken yet, between who gets it and the one task that takes it."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Holds as much as comes, in its order; one task takes.

    asyncio.Queue, which may have bounds and several takers and be waited for as a whole, takes three times as long;
    every token passes two of them.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._awaited: asyncio.Future[None] | None = None
        """While the taker waits."""

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, item: Item) -> None:
        """Add what came; on the event loop."""
        self._items.append(item)
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def take_now(self) -> Item:
        """The next item, where there is one."""
        return self._items.popleft()

    async def take(self) -> Item:
        """The next item; where there is none, wait for it."""
        while not self._items:
            self._awaited = asyncio.get_running_loop().create_future()
            try:
                await self._awaited
            finally:
                self._awaited = None
        return self._items.popleft()
