"""The requests that wait for a verdict, and the batches that they are predicted in."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any, Generic, TypeVar

from weldnet.serve.answers import Refusal
from weldnet.serve.limits import Limits

MAX_BATCH = 8
"""A ResNet50 at 300 x 30 gives nearly all that batches give; twice as many would keep the next request waiting."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Does items in batches of what waits when a thread is free: nothing waits for a batch to fill.

    A network reads all its weights for each batch, so that eight images cost little more than three one by one.
    """

    def __init__(self, pool: Executor, num_threads: int, work: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self.pool, self.num_threads, self.work = pool, num_threads, work
        self.lock = threading.Lock()
        # In the order in which they came.
        self.waiting: dict[Future[Result], Item] = {}

    def submit(self, item: Item) -> Future[Result]:
        """The item's result, when it is there; an error in a batch is that of all its items."""
        future: Future[Result] = Future()
        with self.lock:
            self.waiting[future] = item
        # A cancelled one lets go of its photograph at once.
        future.add_done_callback(self._forget)
        self.pool.submit(self._take_batch)
        return future

    def _forget(self, future: Future[Result]) -> None:
        with self.lock:
            self.waiting.pop(future, None)

    def _take_batch(self) -> None:
        with self.lock:
            # Shared out, so that no thread is idle while another one has all of it.
            size = min(MAX_BATCH, -(-len(self.waiting) // self.num_threads))
            taken = {future: self.waiting.pop(future) for future in list(islice(self.waiting, size))}
        begun = {future: item for future, item in taken.items() if future.set_running_or_notify_cancel()}
        if not begun:
            return
        try:
            for future, result in zip(begun, self.work([*begun.values()]), strict=True):
                future.set_result(result)
        except Exception as error:
            for future in begun:
                future.set_exception(error)


class WorkQueue:
    """The requests that are predicted or wait for it: `length` of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.length = limits, 0

    def check_room(self) -> None:
        """Refuses a request where the queue is full."""
        if self.length >= self.limits.max_queue:
            reason = f"{self.length} requests are waiting already (serve.max_queue); send it again in a moment"
            raise Refusal(429, reason)

    async def run(self, submit: Callable[[Item], Future[Result]], items: Sequence[Item]) -> list[Result]:
        """The results of the items of one request, which `submit` begins; a Refusal if there is no room or time.

        What has begun by then ends by itself, and keeps the request's place until it has.
        """
        self.check_room()
        jobs = [submit(item) for item in items]
        results = asyncio.gather(*map(asyncio.wrap_future, jobs), return_exceptions=True)
        self.length += 1
        results.add_done_callback(self._leave)
        timeout = self.limits.request_timeout_s
        if (await asyncio.wait([results], timeout=timeout))[1]:
            for job in jobs:
                job.cancel()
            reason = f"no answer within {timeout:g} s (serve.request_timeout_s); send fewer or smaller images, or later"
            raise Refusal(503, reason)
        return [job.result() for job in jobs]

    def _leave(self, _: asyncio.Future[Any]) -> None:
        self.length -= 1
