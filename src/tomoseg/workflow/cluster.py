"""Tasks on several processes: a local cluster on this machine's loopback, or a Dask scheduler that is there."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tomoseg.errors import OutputError, SettingError
from tomoseg.extras import load_extra

_CONNECT_SECONDS = "20s"
_WORKER_SECONDS = 120

_TRIMMING = "MALLOC_TRIM_THRESHOLD_"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)
_LARGEST_MMAP_THRESHOLD = 32 << 20


@contextmanager
def dask_client(*, workers: int, scheduler: str | None, threads: int = 1, purpose: str) -> Iterator[Any]:
    """Give a Dask client: of the user's scheduler, or of worker processes on loopback without a dashboard.

    Parameters
    ----------
    workers
        Processes of a local cluster.
    scheduler
        Address of an existing one, `tcp://HOST:PORT`, in whose place none is started.
    threads
        Tasks at a time in a process of a local cluster.
    purpose
        What Dask is needed for, for the message where it is not installed.

    Raises
    ------
    SettingError
        If Dask is not installed, the scheduler does not answer, or it has no worker.
    """
    dask = load_extra("distributed", extra="cluster", purpose=purpose)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is told in our own words
    with _cluster(dask, workers, scheduler, threads) as (address, security):
        try:
            client = dask.Client(address, security=security, set_as_default=False, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError, TypeError) as error:
            raise SettingError(f"--scheduler {address}: no Dask scheduler answers there ({error})") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_WORKER_SECONDS)
            except TimeoutError as error:
                raise SettingError(
                    f"{address}: no worker has come within {_WORKER_SECONDS} s; start one: dask worker {address}"
                ) from error
            yield client


def count_workers(client: Any) -> int:
    """Return how many worker processes there are now."""
    return len(client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def _cluster(dask: Any, workers: int, scheduler: str | None, threads: int) -> Iterator[tuple[str, Any]]:
    """Give a scheduler's address and what it takes to be let in; without one, start a cluster with keys of its own."""
    if scheduler is not None:
        yield scheduler, None  # what the user's own configuration of Dask says
        return
    load_extra("cryptography", extra="cluster", purpose="keys for workers")
    with dask.LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        host="127.0.0.1",
        security=True,
        dashboard_address=None,
        memory_limit=0,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its health page would take port 8787
        silence_logs=40,
    ) as cluster:
        yield str(cluster.scheduler_address), cluster.security


def keep_freed_memory() -> bool:
    """Let glibc keep some of what this process frees, as it does by itself; return whether there was a need.

    Dask's nannies have it give back all, so that each array begins with fresh pages from the system: a training step of
    the poster's network takes 1.5 times as long, a pass through it twice. The values are those to which glibc's own
    thresholds rise.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if _TRIMMING not in os.environ or mallopt is None:
        return False
    return bool(
        mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD) and mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    )


def refuse_lost_scheduler(future: Any) -> None:
    """Raise if a future has ended because its scheduler is gone.

    Raises
    ------
    OutputError
        If so.
    """
    if future.status in ("cancelled", "lost"):
        raise OutputError("the Dask scheduler is gone")


def completions(client: Any, futures: Iterable[Any]) -> Any:
    """Return an iterator of futures as they end, to which more can be added with `add`."""
    distributed = import_module("distributed")
    return distributed.as_completed(futures, loop=client.loop)
