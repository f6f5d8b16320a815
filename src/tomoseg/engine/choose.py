"""Which engine runs a model here: a fixed order of what is installed and passes its check, never a stopwatch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from tomoseg.engine.base import Engine, EngineChoice, EngineName
from tomoseg.engine.gate import Trial, Verdict, judge
from tomoseg.engine.processor import has_bf16, processor
from tomoseg.errors import BegunOtherwiseError, OutputError, SettingError
from tomoseg.extras import load_extra
from tomoseg.model_file import Model, trained_noise
from tomoseg.whole_file import whole_file

Asked = Literal["auto", "torch", "openvino", "onnx"]
Say = Callable[[str], None]

_FEWEST_TILES = 4
_QUANTISED = 2  # the way in which `quantise` does it: another one, another network
_ROUNDED = 1  # the way in which networks are run in bf16
_GRAPH = 1  # the same of `to_onnx`
_MODULES = (("openvino", "openvino", "fast"), ("onnx", "onnxruntime", "onnx"), ("onnx", "onnxscript", "onnx"))


def choose_engine(model: Model, *, asked: Asked, threads: int, cache: Path | None = None, say: Say) -> EngineChoice:
    """Return the engine to use.

    Parameters
    ----------
    model
        The model; its labelled tiles calibrate an int8 network, and check int8 and bf16.
    asked
        `auto`: torch on a GPU, OpenVINO int8, OpenVINO bf16, torch bf16, ONNX Runtime, torch f32, the first that is
        installed, that the processor can do, and that passes its check. Else the engine of that name, in its
        quickest precision of which the same holds, but for torch, which is f32.
    threads
        Processor threads of the process.
    cache
        Where int8 networks and what checks found are kept; the user's cache folder without it.
    say
        Is told what was found.

    Raises
    ------
    SettingError
        If the engine that is asked for is not installed.
    """
    for name, module, extra in _MODULES:
        if asked == name and not _installed(module):
            load_extra(module, extra=extra, purpose=f"--engine {asked}")
    if asked == "torch":
        return _choice("torch")
    folder = cache or cache_folder()
    for choice in candidates(asked):
        if choice.name == "onnx":
            return choice.model_copy(update={"network": _digest(_onnx_graph(model, folder))})
        if choice.precision == "f32":
            return choice
        checked = _checked(model, choice, threads=threads, cache=folder, say=say)
        if checked is not None:
            return checked
    raise AssertionError("torch f32 is always there")


def candidates(asked: Asked) -> Iterator[EngineChoice]:
    """Yield what is installed and what the processor can do, the first to be tried first; nothing is checked yet."""
    if asked == "auto" and _gpu():
        yield _choice("torch")
    if asked in ("auto", "openvino") and _installed("openvino"):
        openvino = _choice("openvino")
        if _installed("nncf"):
            yield openvino.model_copy(update={"precision": "int8"})
        if has_bf16():
            yield openvino.model_copy(update={"precision": "bf16"})
        if asked == "openvino":
            yield openvino
    if asked == "auto" and has_bf16():
        yield _choice("torch").model_copy(update={"precision": "bf16"})
    if asked in ("auto", "onnx") and _installed("onnxruntime") and _installed("onnxscript"):
        yield _choice("onnx")
    yield _choice("torch")


def _choice(name: EngineName) -> EngineChoice:
    library = "onnxruntime" if name == "onnx" else name
    return EngineChoice(
        name=name, precision="f32", version=_version(library), processor=(name == "torch" and _gpu()) or processor()
    )


def _gpu() -> str:
    """Return the name of the GPU that torch would run on; torch takes seconds to load, and is asked only if it may."""
    if version("torch").endswith("+cpu"):
        return ""
    from tomoseg.engine.torch_engine import gpu

    return gpu()


def _installed(module: str) -> bool:
    return find_spec(module) is not None


def cache_folder() -> Path:
    """Return the folder for networks that were built: in the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tomoseg" / "engines"


def int8_path(model: Model, cache: Path) -> Path:
    """Return where a model's int8 network is kept, without its ending."""
    libraries = f"{_QUANTISED}-openvino-{_version('openvino')}-nncf-{_version('nncf')}"
    return _kept_path(model, libraries, cache)


def bf16_path(model: Model, choice: EngineChoice, cache: Path) -> Path:
    """Return where it is kept what the check of an engine in bf16 found, without its ending."""
    return _kept_path(model, f"bf16-{_ROUNDED}-{choice.name}-{choice.version}", cache)


def _kept_path(model: Model, how: str, cache: Path) -> Path:
    return cache / f"{model.content}-{how}-{re.sub(r'[^A-Za-z0-9]+', '_', processor())}"


def _checked(model: Model, choice: EngineChoice, *, threads: int, cache: Path, say: Say) -> EngineChoice | None:
    """Return a choice that is not exact with what its check found, made if it was not before; None if it fails."""
    quantised = choice.precision == "int8"
    path = int8_path(model, cache) if quantised else bf16_path(model, choice, cache)
    verdict = _kept_verdict(path, _network(model, choice, path))
    if verdict is None:
        try:
            verdict = _check(model, choice, path, threads=threads, say=say)
        except OSError as error:
            say(f"an int8 network can't be kept in {cache} ({error.strerror}), so there is none")
        if verdict is None:
            return None
    say(f"{choice} {'passes' if verdict.passes else 'fails'} its check: {verdict}")
    if not verdict.passes:
        return None
    built = _network(model, choice, path) if quantised else ""
    return choice.model_copy(update={"network": built, "found": asdict(verdict)})


def _network(model: Model, choice: EngineChoice, path: Path) -> str:
    """Return a hash of the network that a choice runs: int8 its own, bf16 the model's; nothing where it is missing."""
    if choice.precision != "int8":
        return model.content
    from tomoseg.engine import openvino_engine

    return openvino_engine.digest(path)


def _kept_verdict(path: Path, network: str) -> Verdict | None:
    """Return what the check of a network gave before; None if it was another one, or is not there in whole."""
    try:
        kept = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        return Verdict(**kept["verdict"]) if network and network == kept["network"] else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _check(model: Model, choice: EngineChoice, path: Path, *, threads: int, say: Say) -> Verdict | None:
    """Compare an engine with the exact one on the model's tiles, int8 on those that don't calibrate it; keep that.

    Raises
    ------
    OSError
        If an int8 network can't be kept. Where what the check of bf16 found can't be, it is checked again next time.
    """
    from tomoseg.engine.torch_engine import TorchEngine

    trials = make_trials(model)
    if len(trials) < _FEWEST_TILES:
        say(f"{choice} needs labelled tiles to be checked on; this model carries {len(trials)}")
        return None
    if choice.precision == "int8":
        say("building the int8 network, once for this model")
        fast, trials = _build(model, path, trials[::2], threads=threads), trials[1::2]
    else:
        say(f"checking {choice}, once for this model")
        fast = make_engine(model, choice, threads=threads)
    verdict = judge(fast, TorchEngine(model.network()), trials)
    with suppress(OutputError), whole_file(Path(f"{path}.json")) as draft:
        record = {"network": _network(model, choice, path), "verdict": asdict(verdict)}
        draft.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return verdict


def _build(model: Model, path: Path, trials: Sequence[Trial], *, threads: int) -> Engine:
    """Quantise a model on tiles, and write it; raises OSError where it can't."""
    from tomoseg.engine import openvino_engine

    stacks = [stack for trial in trials for stack in (trial.clean, trial.noisy)]
    openvino_engine.save(openvino_engine.quantise(openvino_engine.convert(model.network()), stacks), path)
    return openvino_engine.OpenVinoEngine(openvino_engine.read(path), precision="int8", threads=threads)


def make_trials(model: Model) -> list[Trial]:
    """Return the model's labelled tiles as network inputs, clean and with the most noise that was trained.

    Tiles have no neighbours: their own slice takes the place of the context.
    """
    if model.samples is None:
        return []
    config, rng = model.record.network, np.random.default_rng(0)
    found = []
    for image, label in zip(model.samples.images, model.samples.labels, strict=True):
        height, width = (size // config.grid * config.grid for size in image.shape)
        one = model.record.window.apply(image[:height, :width])
        clean = np.repeat(one[None], config.channels, axis=0)
        noise = rng.normal(0, trained_noise(model.record), clean.shape).astype(np.float32)
        found.append(Trial(clean, clean + noise, label[:height, :width]))
    return found


def make_engine(
    model: Model, choice: EngineChoice, *, threads: int, at_a_time: int = 1, cache: Path | None = None
) -> Engine:
    """Return exactly the engine that was chosen.

    Parameters
    ----------
    model, choice
        What it runs, and how.
    threads
        Processor threads of a call; of torch, of all its calls in this process from now on.
    at_a_time
        Calls that will run at a time.
    cache
        Where networks that were built are kept; the user's cache folder without it.

    Raises
    ------
    SettingError
        If it is not to be had here: another version of the library, another int8 network, another processor.
    """
    refuse_other_engine(choice)
    if choice.name == "torch":
        from tomoseg.engine.torch_engine import TorchEngine, limit_torch_threads

        limit_torch_threads(threads)
        return TorchEngine(model.network(), precision="bf16" if choice.precision == "bf16" else "f32")
    if choice.name == "onnx":
        from tomoseg.engine.onnx_engine import OnnxEngine

        graph = _onnx_graph(model, cache or cache_folder())
        if choice.network not in ("", _digest(graph)):
            raise BegunOtherwiseError(
                "this run was begun with another ONNX graph, by another torch or onnxscript: its results may differ in "
                "the last digit; install those versions, or begin again with --force"
            )
        return OnnxEngine(graph, threads=threads)
    return _make_openvino(model, choice, threads=threads, at_a_time=at_a_time, cache=cache or cache_folder())


def _onnx_graph(model: Model, cache: Path) -> bytes:
    """Return a model's graph, made once and kept, for that takes seconds; a kept one that is damaged is made again."""
    start = f"{model.content}-{_GRAPH}-torch-{_version('torch')}-onnxscript-{_version('onnxscript')}"
    for path in sorted(cache.glob(f"{start}-*.onnx")):
        graph = path.read_bytes()
        if path.stem == f"{start}-{_digest(graph)}":
            return graph
    from tomoseg.engine.graph import Probable, to_onnx

    network = model.network()
    made = to_onnx(Probable(network), channels=network.config.channels, grid=network.config.grid, given="stack")
    graph = bytes(made.SerializeToString())
    path = cache / f"{start}-{_digest(graph)}.onnx"
    with suppress(OutputError), whole_file(path) as draft:
        draft.write_bytes(graph)
    return graph


def _digest(graph: bytes) -> str:
    return hashlib.sha256(graph).hexdigest()[:16]


def network_files(model: Model, choice: EngineChoice, *, cache: Path | None = None) -> list[Path]:
    """Return the files of the network that was built for a choice: with them in its cache, any machine can run it."""
    folder = cache or cache_folder()
    if choice.precision == "int8":
        return [Path(f"{int8_path(model, folder)}{ending}") for ending in (".xml", ".bin")]
    return sorted(folder.glob(f"{model.content}-*-{choice.network}.onnx")) if choice.name == "onnx" else []


def _make_openvino(model: Model, choice: EngineChoice, *, threads: int, at_a_time: int, cache: Path) -> Engine:
    from tomoseg.engine import openvino_engine

    if choice.precision != "int8":
        built = openvino_engine.convert(model.network())
    else:
        path = int8_path(model, cache)
        if openvino_engine.digest(path) != choice.network:
            raise SettingError(f"this run was begun with an int8 network that is not in {cache}; copy it there")
        built = openvino_engine.read(path)
    return openvino_engine.OpenVinoEngine(built, precision=choice.precision, threads=threads, at_a_time=at_a_time)


def refuse_other_engine(choice: EngineChoice) -> None:
    """Refuse a machine that would compute other bits than the one where `choice` was made.

    Raises
    ------
    BegunOtherwiseError
        If the library has another version, or the processor another instruction set.
    """
    here = _choice(choice.name)
    if choice.version != here.version:
        raise BegunOtherwiseError(
            f"this run was begun with {choice.name} {choice.version}, here is {here.version or 'none'}: its results "
            "may differ in the last digit; install that version, or begin again with --force"
        )
    if choice.processor != here.processor:
        raise BegunOtherwiseError(
            f"this run was begun on a processor with {choice.processor}, this one has {here.processor}: its results "
            "may differ in the last digit; go on with one like that, or begin again with --force"
        )


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ""
