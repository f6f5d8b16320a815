"""Kill a prediction at random moments and take it up again: does it end with the bytes of an undisturbed run?

`python benchmarks/kill_predict.py MODEL SOURCE --out results` (default 20 kills, for each engine named). All
processes of the run get SIGKILL. With `--workers 2` only one worker is killed, once, and the run must go on by itself.
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
from pathlib import Path

import psutil

from tomoseg.workflow.predict_store import checksum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--engines", nargs="+", default=["torch", "auto"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = {engine: try_engine(engine, given) for engine in given.engines}
    results["a worker of two killed"] = kill_a_worker(given)
    (given.out / "kill_predict.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def try_engine(engine: str, given: argparse.Namespace) -> dict[str, object]:
    """Compare a run that is killed again and again with one that is not."""
    whole, killed = given.out / f"whole_{engine}.zarr", given.out / f"killed_{engine}.zarr"
    for place in (whole, killed):
        shutil.rmtree(place, ignore_errors=True)
    began = time.monotonic()
    finish(given, whole, engine)
    seconds = time.monotonic() - began
    draw, moments = random.Random(given.seed), []
    for kill in range(given.kills):
        process = start(given, killed, engine)
        # anywhere in what is left of the run, start-up included: it gets shorter as blocks are done
        wait = draw.uniform(0.3, max(3.0, seconds * (1 - kill / given.kills)))
        time.sleep(wait)
        alive = process.poll() is None
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        moments.append({"after_s": round(wait, 2), "was_running": alive, "blocks_done": blocks(killed)})
        print(engine, moments[-1], flush=True)
        if not alive and killed.exists() and finished(killed):
            shutil.rmtree(killed)
    if not (killed.exists() and finished(killed)):
        finish(given, killed, engine)
    return {"seconds": round(seconds, 1), "kills": moments, "same_bytes": content(whole) == content(killed)}


def kill_a_worker(given: argparse.Namespace) -> dict[str, object]:
    """Kill one of two worker processes while they work; the run must end by itself with the same bytes."""
    whole, killed = given.out / f"whole_{given.engines[0]}_workers.zarr", given.out / "killed_worker.zarr"
    for place in (whole, killed):
        shutil.rmtree(place, ignore_errors=True)
    words = ("--workers", "2", "--threads", "1", "--memory", "4GB")
    finish(given, whole, given.engines[0], "--threads", "1", "--memory", "4GB")
    process = start(given, killed, given.engines[0], *words)
    while blocks(killed) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if is_worker(child)]
    workers[0].send_signal(signal.SIGKILL)
    code = process.wait()
    return {"killed": workers[0].pid, "exit": code, "same_bytes": content(whole) == content(killed)}


def is_worker(process: psutil.Process) -> bool:
    return "multiprocessing.spawn" in " ".join(process.cmdline()) and process.memory_info().rss > 150_000_000


def command(given: argparse.Namespace, out: Path, engine: str, *words: str) -> list[str]:
    shared = ("--probabilities", "--uncertainty", "--engine", engine, "--quiet")
    return [
        sys.executable,
        "-m",
        "tomoseg",
        "predict",
        str(given.model),
        str(given.source),
        "-o",
        str(out),
        *shared,
        *words,
    ]


def start(given: argparse.Namespace, out: Path, engine: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(given, out, engine, *words), stdout=subprocess.DEVNULL, start_new_session=True)


def finish(given: argparse.Namespace, out: Path, engine: str, *words: str) -> None:
    subprocess.run(command(given, out, engine, *words), check=True, stdout=subprocess.DEVNULL)


def blocks(store: Path) -> int:
    return len(list((store / "tomoseg/blocks").glob("*.json")))


def finished(store: Path) -> bool:
    state = json.loads((store / "zarr.json").read_text())["attributes"]["tomoseg"]
    return bool(state["finished"])


def content(store: Path) -> dict[str, str]:
    return {file.relative_to(store).as_posix(): checksum(file) for file in sorted(store.rglob("*")) if file.is_file()}


if __name__ == "__main__":
    main()
