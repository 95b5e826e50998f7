"""The requests that wait for a verdict, and the batches that they are judged in."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Generic, TypeVar

from weldnet.serve.limits import Limits, Refusal

MAX_BATCH = 8
"""A ResNet50 at 300 x 30 gives nearly all that batches give; twice as many would keep the next request waiting."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Does items in batches of what waits when a thread is free: nothing waits for a batch to fill.

    A network reads all its weights for each batch, so that eight images cost little more than three one by one.

    Args:
        pool: its threads do the work.
        num_threads: of the pool.
        work: items to as many results.
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
            taken = [(self.waiting.pop(future), future) for future in list(islice(self.waiting, size))]
        begun = [(item, future) for item, future in taken if future.set_running_or_notify_cancel()]
        if not begun:
            return
        try:
            results = self.work([item for item, _ in begun])
        except Exception as error:
            for _, future in begun:
                future.set_exception(error)
        else:
            for (_, future), result in zip(begun, results, strict=True):
                future.set_result(result)


class WorkQueue:
    """The requests that are judged or wait for it: `length` of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.length = limits, 0
        # The loop itself keeps no task alive.
        self._tasks: set[asyncio.Task[None]] = set()

    def check_room(self) -> None:
        """Raises:
        Refusal: the queue is full.
        """
        if self.length >= self.limits.max_queue:
            words = f"{self.length} requests are waiting already (serve.max_queue); send it again in a moment"
            raise Refusal(429, words, retry=True)

    async def run(self, submit: Callable[[Item], Future[Result]], items: Sequence[Item]) -> list[Result]:
        """The results of the items of one request, which `submit` begins.

        Raises:
            Refusal: the queue is full, or the time is over; what has begun by then ends by itself and keeps the
                request's place until it has.
        """
        self.check_room()
        jobs = [submit(item) for item in items]
        futures = [asyncio.wrap_future(job) for job in jobs]
        self.length += 1
        task = asyncio.create_task(self._leave_after(futures))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        timeout = self.limits.request_timeout_s
        if (await asyncio.wait([task], timeout=timeout))[1]:
            for job in jobs:
                job.cancel()
            words = f"no answer within {timeout:g} s (serve.request_timeout_s); send fewer or smaller images, or later"
            raise Refusal(503, words, retry=True)
        return [future.result() for future in futures]

    async def _leave_after(self, futures: Sequence[asyncio.Future[Result]]) -> None:
        await asyncio.wait(futures)
        self.length -= 1
