"""A bounded pool of worker threads: flat memory, first error wins, Ctrl-C stops at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_DEFAULT_WORKERS = 8


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for each matrix product, in all of the process, while the context lasts.

    Workers are the parallelism: products that start threads of their own only get in their way, and
    their sums, added up in another order, would differ in the last bit with the number of cores.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


def default_workers() -> int:
    """Worker threads when the user names none: the cores we may use, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, MAX_DEFAULT_WORKERS))


def map_unordered(
    function: Callable[[T], R], items: Iterable[T], workers: int | None = None
) -> Iterator[R]:
    """Results of `function` as they are finished; at most 2 × workers items are under way.

    The first exception is raised here, after which no further item is begun.
    """
    count = workers or default_workers()
    if count == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="ftt-hub")
    waiting: set[Future[R]] = set()
    try:
        for item in items:
            waiting.add(pool.submit(function, item))
            if len(waiting) >= 2 * count:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
