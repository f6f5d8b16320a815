"""Work on a segmentation spread over several things, in this process, in several, or on a Dask cluster."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar, runtime_checkable

from threadpoolctl import threadpool_limits

from tomoseg.workflow.segmentation import Work

Given = TypeVar("Given")
Made = TypeVar("Made")


@runtime_checkable
class Spread(Protocol):
    """Gives what a function makes of each of several things, in their order."""

    def __call__(self, function: Callable[[Work, Given], Made], several: Sequence[Given]) -> Iterator[Made]:
        """Yield the results as they come, in order."""
        ...


@contextmanager
def spread_work(work: Work, workers: int, scheduler: str | None) -> Iterator[Spread]:
    """Give what runs a function in this process, in several, or on a Dask cluster; few tasks ahead of the reader."""
    if scheduler is not None:
        from tomoseg.workflow.cluster import count_workers, dask_client

        with dask_client(workers=workers, scheduler=scheduler, purpose="measuring on a cluster") as client:
            submit = partial(client.submit, pure=False)
            yield lambda function, several: _in_order(
                submit, partial(function, work), several, 2 * count_workers(client)
            )
    elif workers == 1:
        yield lambda function, several: (function(work, one) for one in several)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_alone) as pool:
            try:
                yield lambda function, several: _in_order(
                    _unreachable(pool.submit), partial(function, work), several, 2 * workers
                )
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _in_order(
    submit: Callable[..., Any], function: Callable[[Given], Made], several: Iterable[Given], ahead: int
) -> Iterator[Made]:
    waiting: deque[Any] = deque()
    for one in several:
        waiting.append(submit(function, one))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _alone() -> None:
    """Let a process use one thread, for there is a process a core."""
    threadpool_limits(limits=1)


def _unreachable(submit: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `submit` whose processes, started at its first call, get no Ctrl-C: that is for the one that leads.

    They inherit the mask, and so are deaf from their first instant, when they still import; a Ctrl-C in between comes
    afterwards.
    """

    def quietly(*given: Any) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return submit(*given)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return quietly if hasattr(signal, "pthread_sigmask") else submit
