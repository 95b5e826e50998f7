"""Batches of what waits, and nothing lost, mixed up or kept."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from weldnet.serve.request_queue import MAX_BATCH, Batcher


class Doubler:
    """Doubles numbers; while `gate` is shut it does not answer, and it cannot double 13."""

    def __init__(self) -> None:
        self.gate, self.begun, self.sizes = threading.Event(), threading.Event(), list[int]()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.begun.set()
        assert self.gate.wait(30)
        self.sizes.append(len(numbers))
        if 13 in numbers:
            raise ArithmeticError("13")
        return [2 * number for number in numbers]


@pytest.fixture
def doubler() -> Iterator[Doubler]:
    made = Doubler()
    yield made
    made.gate.set()


@pytest.mark.parametrize("num_threads", [1, 3])
def test_what_waits_is_one_batch_shared_out_among_the_threads(doubler: Doubler, num_threads: int) -> None:
    with ThreadPoolExecutor(num_threads) as pool:
        batcher = Batcher(pool, num_threads, doubler)
        first = [batcher.submit(number) for number in range(num_threads)]
        while batcher.waiting:
            pass
        rest = [batcher.submit(number) for number in range(100, 112)]
        doubler.gate.set()
        assert [job.result(30) for job in first] == [2 * number for number in range(num_threads)]
        assert [job.result(30) for job in rest] == list(range(200, 224, 2))
    assert sum(doubler.sizes) == 12 + num_threads
    assert max(doubler.sizes) == (MAX_BATCH if num_threads == 1 else 4)
    assert not batcher.waiting


def test_a_cancelled_item_is_let_go_and_not_done(doubler: Doubler) -> None:
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(pool, 1, doubler)
        first = batcher.submit(1)
        assert doubler.begun.wait(30)
        second, third = batcher.submit(13), batcher.submit(3)
        assert second.cancel()
        assert list(batcher.waiting.values()) == [3]
        assert not first.cancel()
        doubler.gate.set()
        assert (first.result(30), third.result(30)) == (2, 6)
        with pytest.raises(CancelledError):
            second.result()


def test_an_error_is_reported_and_the_next_batch_runs(doubler: Doubler) -> None:
    doubler.gate.set()
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(pool, 1, doubler)
        with pytest.raises(ArithmeticError, match="13"):
            batcher.submit(13).result(30)
        assert batcher.submit(4).result(30) == 8
