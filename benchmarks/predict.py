"""How fast prediction is, beside the poster's network, the bare engine and one worker, in one run; and its memory.

`python benchmarks/predict.py MODEL --out results [--only engines monai end workers memory]`. MODEL is a default model,
trained with context. Times are medians of several runs; ratios count, for times vary on a busy machine. `--monai` names
the interpreter of MONAI's environment (peers/README.md). What a quick engine loses: `engine_accuracy.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch

from tomoseg.engine import Engine, EngineChoice
from tomoseg.engine.choose import candidates, choose_engine, make_engine
from tomoseg.engine.openvino_engine import OpenVinoEngine, convert
from tomoseg.engine.processor import processor
from tomoseg.engine.torch_engine import TorchEngine
from tomoseg.model_file import Model, load_model
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import SliceWriter
from tomoseg.workflow.predict_plan import Lanes

TILE = 512
RUNS = 5
CALLS = 3
TURNS = 3
END_TO_END = (500, 501, 501)
SPREAD = (1000, 501, 501)
LARGE = (1024, 1024, 1024)
MONAI_WINDOWS = (128, 256, 512)
THREADS = os.cpu_count() or 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--monai", type=Path, default=Path(".peers/monai/bin/python"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    model = load_model(given.model)
    for name in given.only:
        for row in PARTS[name](model, given):
            print(json.dumps(row), flush=True)
            with (given.out / "predict.jsonl").open("a") as file:
                file.write(json.dumps({"part": name, **row}) + "\n")


def seconds(run: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median time of a few runs after one that warms up."""
    run()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def seconds_a_call(model: Model, choice: EngineChoice, stack: np.ndarray, *, calls: int | None = None) -> float:
    """Return the median time of an engine's call when it is called as the verb does: in all lanes at a time."""
    lanes = Lanes.of(THREADS)
    torch.set_num_threads(lanes.threads)
    engine = make_engine(model, choice, threads=lanes.threads, at_a_time=lanes.computing)
    calls = calls or CALLS * lanes.computing
    with ThreadPoolExecutor(lanes.computing) as pool:
        took = seconds(lambda: list(pool.map(engine.run, [stack] * calls)))
    torch.set_num_threads(THREADS)
    return took / calls


def product_gflops(dtype: torch.dtype) -> float:
    """Return the rate of matrix products of 2048 x 2048 in GFLOP/s."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    return 2 * 2048**3 / seconds(lambda: a @ b) / 1e9


def engines(model: Model, given: argparse.Namespace) -> list[dict[str, object]]:
    """Time every engine that there is on one tile, beside the poster's network in plain torch."""
    config = model.record.network
    edge = TILE + 2 * config.halo
    stack = np.random.default_rng(0).random((config.channels, edge, edge), np.float32)
    poster = UNet(UNetConfig(classes=config.classes, widths=(64, 128, 256, 512), bottleneck=1024)).eval()
    one = torch.from_numpy(stack[:1])[None]
    with torch.inference_mode():
        reference = seconds(lambda: torch.softmax(poster(one), 1), runs=1)
    rows: list[dict[str, object]] = [row("poster's network, torch f32", reference, reference)]
    seen = set()
    for choice in [*candidates("auto"), *candidates("openvino")]:
        if str(choice) in seen:
            continue
        seen.add(str(choice))
        if choice.precision == "int8":
            found = choose_engine(model, asked="openvino", threads=THREADS, say=print)
            if found.precision != "int8":
                continue
            choice = found
        rows.append(row(str(choice), seconds_a_call(model, choice, stack), reference))
    wide = UNet(UNetConfig(classes=config.classes, widths=(16, 32, 64), bottleneck=128)).eval()
    rows.append(arithmetic("torch f32", TorchEngine(wide), wide.config, edge, torch.float32))
    if "bf16" in processor():
        quick = OpenVinoEngine(convert(wide), precision="bf16", threads=1, at_a_time=THREADS)
        rows.append(arithmetic("OpenVINO bf16", quick, wide.config, edge, torch.bfloat16, at_a_time=THREADS))
    return rows


def arithmetic(
    name: str, engine: Engine, config: UNetConfig, edge: int, dtype: torch.dtype, *, at_a_time: int = 1
) -> dict[str, object]:
    """Return the arithmetic rate of the 16-32-64-128 network beside that of matrix products in the same precision."""
    single = np.random.default_rng(0).random((1, edge, edge), np.float32)
    with ThreadPoolExecutor(at_a_time) as pool:
        took = seconds(lambda: list(pool.map(engine.run, [single] * CALLS * at_a_time))) / (CALLS * at_a_time)
    rate, product = flops(config, edge) / took / 1e9, product_gflops(dtype)
    return {f"arithmetic GFLOP/s, 16-32-64-128, {name}": rate, "matrix products": product, "ratio": rate / product}


def row(name: str, took: float, reference: float) -> dict[str, object]:
    return {"engine": name, "Mvoxel/s": TILE**2 / took / 1e6, "over the poster's network": reference / took}


def flops(config: UNetConfig, edge: int) -> float:
    """Return the floating-point operations of a forward pass: two a multiplication of the convolutions."""
    widths = (*config.widths, config.bottleneck)
    total, channels = 0.0, config.channels
    for step, width in enumerate(widths):
        pixels = (edge / 2**step) ** 2
        total += 2 * 9 * pixels * (channels * width + width * width)
        channels = width
    for step, fine in enumerate(config.widths):
        pixels = (edge / 2**step) ** 2
        total += 2 * pixels * widths[step + 1] * fine + 2 * 9 * pixels * (2 * fine * fine + fine * fine)
    return total + 2 * edge**2 * widths[0] * config.classes


def monai(model: Model, given: argparse.Namespace) -> list[dict[str, object]]:
    """Time a slice with the best engine, and with MONAI's sliding window and the same network in float32."""
    config, script = model.record.network, Path(__file__).parent / "peers/monai_window.py"
    choice = choose_engine(model, asked="auto", threads=THREADS, say=print)
    network = given.out / "network.pt"
    torch.jit.save(torch.jit.trace(model.network().eval(), torch.zeros(1, config.channels, 256, 256)), network)
    rows = []
    for size, edge in itertools.product((END_TO_END[1], LARGE[1]), MONAI_WINDOWS):
        fed = -(-size // config.grid) * config.grid + 2 * config.halo
        ours = seconds_a_call(model, choice, np.random.default_rng(0).random((config.channels, fed, fed), np.float32))
        command = [given.monai, script, network, config.channels, size, size, edge, THREADS]
        done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
        theirs = json.loads(done.stdout.splitlines()[-1])["seconds"]
        rows.append(
            {
                "slice": size,
                "MONAI's window": edge,
                "its Mvoxel/s": size**2 / theirs / 1e6,
                "ours": size**2 / ours / 1e6,
                "ratio": theirs / ours,
            }
        )
    return rows


def end(model: Model, given: argparse.Namespace) -> list[dict[str, object]]:
    """Time the verb from start to end on a volume, in turn with the engine alone, which runs for as long."""
    source = volume(given.out / "end_to_end.raw", END_TO_END, model)
    out = given.out / "end_to_end.zarr"
    config = model.record.network
    edge = -(-END_TO_END[1] // config.grid) * config.grid + 2 * config.halo
    stack = np.random.default_rng(0).random((config.channels, edge, edge), np.float32)
    choice = choose_engine(model, asked=given.engine, threads=THREADS, say=print)
    rows: list[dict[str, object]] = []
    for turn in range(TURNS):
        took, peak = verb(given, source, out, "--force", look=math.inf if turn else 5.0)  # looking takes time
        bare = seconds_a_call(model, choice, stack, calls=END_TO_END[0] // 5) * END_TO_END[0]
        rows.append(
            {
                "engine": str(choice), "end to end, s": took, "bare engine, s": bare, "share of it": bare / took,
                "Mvoxel/s": float(np.prod(END_TO_END)) / took / 1e6, "peak MB": peak / 1e6,
            }
        )  # fmt: skip
    return rows


def memory(model: Model, given: argparse.Namespace) -> list[dict[str, object]]:
    """Watch the memory of all processes of a run that has promised 1 GB, on 2 GB of voxels."""
    source = volume(given.out / "large.raw", LARGE, model)
    took, peak = verb(given, source, given.out / "large.zarr", "--force", "--memory", "1GB", look=0.1)
    return [{"shape": LARGE, "peak MB": peak / 1e6, "promised MB": 1000, "seconds": took}]


def workers(model: Model, given: argparse.Namespace) -> list[dict[str, object]]:
    """Compare two Dask workers with one, each held to a core of its own, and what these cores give the bare engine."""
    from distributed import Client, LocalCluster

    source = volume(given.out / "spread.raw", SPREAD, model)
    choice = choose_engine(model, asked=given.engine, threads=1, say=print)
    took, rate = {}, {}
    for n in (1, 2):
        with (
            LocalCluster(n_workers=n, threads_per_worker=2, host="127.0.0.1", dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            for core, worker in enumerate(client.scheduler_info(n_workers=-1)["workers"]):
                client.run(hold_to, core, workers=[worker])
            out = given.out / f"workers_{n}.zarr"
            words = ("--force", "--threads", "1", "--scheduler", cluster.scheduler_address)
            took[n], _ = verb(given, source, out, *words)
            jobs = [
                client.submit(calls_a_second, given.model.absolute(), choice, workers=[worker], pure=False)
                for worker in client.scheduler_info(n_workers=-1)["workers"]
            ]
            rate[n] = sum(client.gather(jobs))
    return [
        {
            "one worker, s": took[1], "two workers, s": took[2], "ratio": took[1] / took[2],
            "the bare engine's": rate[2] / rate[1],
        }
    ]  # fmt: skip


def calls_a_second(path: Path, choice: EngineChoice) -> float:
    """Return how often the bare engine runs a tile in a second, on one thread."""
    model = load_model(path)
    engine, edge = make_engine(model, choice, threads=1), TILE + 2 * model.record.network.halo
    stack = np.random.default_rng(0).random((model.record.network.channels, edge, edge), np.float32)
    return 1 / seconds(lambda: engine.run(stack), runs=20)


def hold_to(core: int) -> None:
    """Let all threads of this process run on one core only."""
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, {core})


def volume(path: Path, shape: tuple[int, int, int], model: Model) -> Path:
    """Write a volume of smooth structures and noise in the model's grey values, if it is not there."""
    if path.exists():
        return path
    window, rng = model.record.window, np.random.default_rng(0)
    coarse = rng.random((shape[0] // 8 + 2, shape[1] // 8 + 2, shape[2] // 8 + 2)) > 0.5
    with SliceWriter(path, shape=shape, dtype=np.dtype(model.record.grey_type), voxel_size_um=(0.02,) * 3) as writer:
        for z in range(shape[0]):
            plane = np.kron(coarse[z // 8], np.ones((8, 8)))[: shape[1], : shape[2]]
            grey = window.low + window.width * (plane + 0.03 * rng.standard_normal(plane.shape, np.float32))
            writer.write(np.clip(grey, 0, 65535).astype(model.record.grey_type))
    return path


def verb(given: argparse.Namespace, source: Path, out: Path, *words: str, look: float = 5.0) -> tuple[float, float]:
    """Run `tomoseg predict`; return its seconds and the peak of the memory of all its processes (PSS) in bytes.

    Looking every `look` seconds takes the processor from it, some hundredths of a second each time.
    """
    command = [sys.executable, "-m", "tomoseg", "predict", str(given.model), str(source), "-o", str(out)]
    command += ["--window", "keep"]  # the volume has two phases at the ends of the model's window
    began = looked = time.perf_counter()
    peak = 0.0
    process = subprocess.Popen([*command, "--engine", given.engine, *words], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if time.perf_counter() - looked >= look:
            peak, looked = max(peak, pss(process.pid)), time.perf_counter()
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"tomoseg predict failed with {process.returncode}")
    return time.perf_counter() - began, peak


def pss(pid: int) -> float:
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return float(sum(one.memory_full_info().pss for one in family))
    except psutil.Error:
        return 0.0


PARTS = {"engines": engines, "monai": monai, "end": end, "workers": workers, "memory": memory}

if __name__ == "__main__":
    main()
