"""Work done in threads while others work: read, detect, draw and write at the same time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def mapped(
    function: Callable[[Item], Made], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Made]:
    """`function(item)` of each item, in order, made in threads while the caller is elsewhere.

    The items are taken in the caller's thread. What the function raises, this raises in its place.

    Args:
      function: is called by several threads at the same time.
      items: may be endless.
      threads: how many.
      ahead: items taken before the caller has asked for theirs, at most; it bounds the memory.
    """
    pending: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
