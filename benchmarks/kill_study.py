"""Kill a noise study at random moments and go on, and run it on a cluster started by hand: the same table each time?

`python benchmarks/kill_study.py --out results` (default 4 kills). All processes of the study get SIGKILL. Trainings are
counted in steps and have one thread, so that the table has to be the same to the last digit; no cell may be run twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common import PHANTOM_CLASSES, make_phantom

SCHEDULER = "tcp://127.0.0.1:8798"
STUDY = (
    *("--steps", "16", "--width", "4", "--patch", "64", "--batch", "4"),
    *("--levels", "0", "5000", "--test-slices", "4", "--no-forest"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    scan = make_phantom(given.out, (64, 128, 128))
    whole = Study(scan, given.out / "whole", ("--threads", "1"))
    began = time.monotonic()
    whole.finish()
    seconds = time.monotonic() - began
    results = {"whole": {"cells": len(whole.cells()), "seconds": round(seconds, 1)}}
    killed = Study(scan, given.out / "killed", ("--threads", "1"))
    moments, seen = killed.disturb(given.kills, seconds, random.Random(given.seed))
    twice = [name for name, when in seen.items() if killed.cells()[name] != when]
    results["killed"] = {"kills": moments, **compare(whole, killed), "cells_run_twice": twice}
    with cluster():
        spread = Study(scan, given.out / "spread", ("--scheduler", SCHEDULER))
        spread.finish()
    results["two workers by hand"] = compare(whole, spread)
    (given.out / "kill_study.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


class Study:
    """One folder of a study, made anew, and all that its runs have said."""

    def __init__(self, scan: Path, out: Path, words: tuple[str, ...]) -> None:
        shutil.rmtree(out, ignore_errors=True)
        self.out, self.log = out, out.with_suffix(".log")
        self.log.write_bytes(b"")
        verb = [sys.executable, "-m", "tomoseg", "study", "noise", str(scan / "images"), str(scan / "labels")]
        self.command = [*verb, "-o", str(out), "--classes", *PHANTOM_CLASSES, *STUDY, *words]

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)

    def finish(self) -> None:
        if code := self.start().wait():
            raise SystemExit(f"exit code {code}; see {self.log}")

    def disturb(self, kills: int, seconds: float, draw: random.Random) -> tuple[list[dict[str, float]], dict[str, int]]:
        """Kill it at random moments, and let it end; return the moments, and when each cell was first written."""
        moments: list[dict[str, float]] = []
        seen: dict[str, int] = {}
        for _ in range(kills):
            process = self.start()
            wait = draw.uniform(5.0, 8.0 + seconds / kills)  # starting takes some five
            time.sleep(wait)
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            seen = {**self.cells(), **seen}
            moments.append({"after_s": round(wait, 1), "cells_done": len(seen)})
            print(moments[-1], flush=True)
        self.finish()
        return moments, seen

    def cells(self) -> dict[str, int]:
        """Return the cells that are done, and when each was written."""
        return {file.stem: file.stat().st_mtime_ns for file in (self.out / "cells").glob("*.json")}

    def tables(self) -> tuple[str, ...]:
        return tuple((self.out / name).read_text() for name in ("table.csv", "curve.csv"))


def compare(whole: Study, other: Study) -> dict[str, object]:
    same_cells = set(other.cells()) == set(whole.cells())
    return {"same_tables": whole.tables() == other.tables(), "same_cells": same_cells}


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Start a scheduler and two worker processes of one thread each, as a user would by hand."""
    dask = Path(sys.executable).parent / "dask"
    words = (["scheduler", "--host", "127.0.0.1", "--port", SCHEDULER.rpartition(":")[2], "--no-dashboard"],
             *(["worker", SCHEDULER, "--nthreads", "1", "--no-dashboard"] for _ in range(2)))  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen([str(dask), *word], **quiet) for word in words]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for process in processes[::-1]:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
