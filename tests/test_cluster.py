"""What a worker process of a cluster does before it computes."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tomoseg.errors import OutputError
from tomoseg.workflow.cluster import keep_freed_memory, refuse_lost_scheduler

_COUNT = """
import resource, sys
import numpy as np
from tomoseg.workflow.cluster import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        np.ones(1 << 18, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
use()
print(use())
"""


def page_faults(what: str) -> int:
    """Return the pages that 40 arrays of a megabyte take from the system in a process that Dask would start."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, what],
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_worker_keeps_the_memory_that_it_frees() -> None:
    assert page_faults("leave") > 4000
    assert page_faults("keep") < 100


def test_a_process_that_no_nanny_started_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    assert not keep_freed_memory()


@pytest.mark.parametrize("status", ["cancelled", "lost"])
def test_a_lost_scheduler_is_said_in_one_line(status: str) -> None:
    with pytest.raises(OutputError, match="the Dask scheduler is gone"):
        refuse_lost_scheduler(SimpleNamespace(status=status))
    refuse_lost_scheduler(SimpleNamespace(status="finished"))
