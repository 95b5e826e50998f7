"""Queues the requests for a verdict, and predicts their images in batches."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any, Generic, TypeVar

from weldnet.serve.answers import Refusal
from weldnet.serve.limits import Limits

MAX_BATCH = 8
"""Larger batches hardly speed up a ResNet50 at 300 x 30, and would delay the next request."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Processes items in batches: a free thread takes the items that wait at that moment, and waits for no others.

    A network reads all its weights once for each batch, so eight images in one batch cost little more than three one
    by one.
    """

    def __init__(self, pool: Executor, num_threads: int, work: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self.pool, self.num_threads, self.work = pool, num_threads, work
        self.lock = threading.Lock()
        # In order of arrival.
        self.waiting: dict[Future[Result], Item] = {}

    def submit(self, item: Item) -> Future[Result]:
        """Returns the future of the item's result. An error in a batch fails all items of the batch."""
        future: Future[Result] = Future()
        with self.lock:
            self.waiting[future] = item
        # Frees the photograph of a cancelled item at once.
        future.add_done_callback(self._forget)
        self.pool.submit(self._take_batch)
        return future

    def _forget(self, future: Future[Result]) -> None:
        with self.lock:
            self.waiting.pop(future, None)

    def _take_batch(self) -> None:
        with self.lock:
            # Divided among the threads, so that none is idle while a different one takes all items.
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
    """Limits the requests that wait or are being predicted; `length` is their number."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.length = limits, 0

    def check_room(self) -> None:
        """Raises a Refusal if the queue is full."""
        if self.length >= self.limits.max_queue:
            reason = f"{self.length} requests are already waiting (serve.max_queue); send it again in a moment"
            raise Refusal(429, reason)

    async def run(self, submit: Callable[[Item], Future[Result]], items: Sequence[Item]) -> list[Result]:
        """Submits the items of one request and returns their results.

        Raises:
            Refusal: the queue is full, or the time is up. Items that are being predicted are then still completed, and
                until they are, the request counts in `length`.
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
            reason = f"no answer within {timeout:g} s (serve.request_timeout_s); retry later, or send less at a time"
            raise Refusal(503, reason)
        return [job.result() for job in jobs]

    def _leave(self, _: asyncio.Future[Any]) -> None:
        self.length -= 1
