"""Engines: all give the exact one's probabilities, int8 and bf16 only where they pass their check."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from test_predict_volume import make_model
from tomoseg.cli import run
from tomoseg.engine import Engine, EngineChoice, Probabilities, Stack, openvino_engine
from tomoseg.engine import choose as choosing
from tomoseg.engine import processor as processors
from tomoseg.engine.choose import choose_engine, make_engine, make_trials
from tomoseg.engine.gate import Trial, Verdict, judge
from tomoseg.engine.torch_engine import TorchEngine
from tomoseg.errors import BegunOtherwiseError, SettingError
from tomoseg.model_file import Model, load_model

SIZES = ((64, 96), (128, 80), (40, 40))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("engines") / "m.tomoseg")


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return load_model(path)


def stacks(model: Model) -> list[Stack]:
    rng = np.random.default_rng(0)
    return [rng.random((model.record.network.channels, *size), np.float32) for size in SIZES]


@pytest.mark.parametrize("asked", ["onnx", "openvino"])
def test_in_float32_every_engine_gives_torchs_probabilities(model: Model, asked: str) -> None:
    choices = [choice for choice in choosing.candidates(asked) if choice.precision == "f32"]
    assert [choice.name for choice in choices] == [asked, "torch"]
    exact, engine = TorchEngine(model.network()), make_engine(model, choices[0], threads=1)
    for stack in stacks(model):
        np.testing.assert_allclose(engine.run(stack), exact.run(stack), atol=1e-5)


@pytest.mark.parametrize("asked", ["onnx", "openvino"])
def test_every_engine_averages_over_the_views(tmp_path: Path, asked: str) -> None:
    model = load_model(make_model(tmp_path / "m.tomoseg", mirrored=4))
    exact = TorchEngine(model.network())
    chosen = choose_engine(model, asked=asked, threads=1, cache=tmp_path, say=print)
    for choice in (chosen, *(choice for choice in choosing.candidates(asked) if choice.precision != "int8")):
        engine = make_engine(model, choice, threads=1, cache=tmp_path)
        for stack in stacks(model):
            found, mirrored = engine.run(stack), np.flip(engine.run(np.flip(stack, 2)), 2)
            np.testing.assert_allclose(found, mirrored, atol=1e-5 if choice.precision == "f32" else 0.02)
            np.testing.assert_allclose(found, exact.run(stack), atol=1e-5 if choice.precision == "f32" else 0.2)


class Spoiled:
    """Gives another class for a part of the pixels."""

    def __init__(self, exact: Engine, share: float) -> None:
        self._exact, self._share = exact, share

    def run(self, stack: Stack) -> Probabilities:
        found = self._exact.run(stack).copy()
        rows = int(self._share * found.shape[1])
        found[:, :rows] = np.roll(found[:, :rows], 1, axis=0)
        return found


def trials(model: Model) -> list[Trial]:
    """Return tiles whose labels are the exact engine's own."""
    exact = TorchEngine(model.network())
    return [
        replace(trial, label=exact.run(trial.clean).argmax(axis=0).astype(np.uint8)) for trial in make_trials(model)
    ]


def test_the_check_passes_what_is_the_same_and_refuses_what_differs(model: Model) -> None:
    exact = TorchEngine(model.network())
    same = judge(exact, exact, trials(model))
    assert (same.agree_clean, same.agree_noisy, same.accuracy_lost, same.interface_changed) == (1, 1, 0, 0)
    assert same.passes
    odd = judge(Spoiled(exact, 0.1), exact, trials(model))
    assert odd.agree_clean == pytest.approx(1 - int(0.1 * 64) / 64)
    assert odd.accuracy_lost == pytest.approx(1 - odd.agree_clean, abs=0.05)
    assert not odd.passes


def test_int8_is_built_once_kept_and_exactly_what_was_chosen(model: Model, tmp_path: Path) -> None:
    said: list[str] = []
    choice, kept = choice_of("openvino", "int8"), choosing.int8_path(model, tmp_path)
    built = choosing._check(model, choice, kept, threads=1, say=said.append)
    assert built is not None
    assert 0.8 < built.agree_clean <= 1
    used = choosing._checked(model, choice, threads=1, cache=tmp_path, say=said.append)
    assert (used is not None) == built.passes
    assert len(said) == 2
    known = choice.model_copy(update={"network": openvino_engine.digest(choosing.int8_path(model, tmp_path))})
    first, second = (make_engine(model, known, threads=1, cache=tmp_path) for _ in range(2))
    for stack in stacks(model):
        assert np.array_equal(first.run(stack), second.run(stack))
    with pytest.raises(SettingError, match="int8 network that is not in"):
        make_engine(model, choice.model_copy(update={"network": "0" * 16}), threads=1, cache=tmp_path)


def test_an_onnx_graph_is_made_once_and_kept(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = choosing._choice("onnx")
    first = make_engine(model, choice, threads=1, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    assert choosing.network_files(model, choose_engine(model, asked="onnx", threads=1, cache=tmp_path, say=print),
                                  cache=tmp_path) == [kept]  # fmt: skip
    monkeypatch.setattr("tomoseg.engine.graph.to_onnx", None)
    second = make_engine(model, choice, threads=1, cache=tmp_path)
    for stack in stacks(model):
        assert np.array_equal(first.run(stack), second.run(stack))
    with pytest.raises(BegunOtherwiseError, match="another ONNX graph"):
        make_engine(model, choice.model_copy(update={"network": "0" * 16}), threads=1, cache=tmp_path)
    kept.write_bytes(kept.read_bytes()[:-1])  # damaged: it is made again
    with pytest.raises(TypeError):
        make_engine(model, choice, threads=1, cache=tmp_path)


def choice_of(name: str, precision: str) -> EngineChoice:
    return choosing._choice(name).model_copy(update={"precision": precision})


def keep_failed_int8(model: Model, cache: Path) -> None:
    """Leave an int8 network that has failed its check in a cache."""
    path = choosing.int8_path(model, cache)
    for ending in (".xml", ".bin"):
        Path(f"{path}{ending}").write_text("kept")
    verdict = {"agree_clean": 0.99, "agree_noisy": 0.99, "accuracy_lost": 0.0, "interface_changed": 0.0}
    Path(f"{path}.json").write_text(json.dumps({"network": openvino_engine.digest(path), "verdict": verdict}))


def give_spoiled(patch: pytest.MonkeyPatch, share: float) -> None:
    """Have all engines in bf16 give another class for a part of the pixels, on any processor."""
    patch.setattr(choosing, "has_bf16", lambda: True)
    patch.setattr(
        choosing, "make_engine", lambda model, choice, *, threads: Spoiled(TorchEngine(model.network()), share)
    )


@pytest.mark.parametrize("bf16", [False, True])
def test_auto_passes_over_what_fails_its_check_and_says_so(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    said: list[str] = []
    give_spoiled(monkeypatch, 0.1)
    monkeypatch.setattr(choosing, "has_bf16", lambda: bf16)
    keep_failed_int8(model, tmp_path)
    choice = choose_engine(model, asked="auto", threads=1, cache=tmp_path, say=said.append)
    assert (str(choice), choice.found) == ("onnx f32", {})
    assert said[0] == ("openvino int8 fails its check: labels agree to 99.00 % clean and 99.00 % noisy, 0.0000 of "
                       "accuracy lost, interfaces changed by 0.00 %")  # fmt: skip
    shown = ("checking openvino", "openvino bf16 fails its check: labels agree to 90.62 % clean and 90.62 % noisy",
             "checking torch", "torch bf16 fails its check: labels agree to 90.62 %")  # fmt: skip
    assert len(said) == 1 + bf16 * len(shown)
    assert all(line.startswith(start) for line, start in zip(said[1:], shown, strict=False))


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_bf16_that_passes_its_check_runs_and_is_checked_once(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    said: list[str] = []
    give_spoiled(monkeypatch, 0.0)
    if name == "torch":
        monkeypatch.setattr(choosing, "find_spec", lambda module: None)
    keep_failed_int8(model, tmp_path)

    def choose() -> EngineChoice:
        return choose_engine(model, asked="auto", threads=1, cache=tmp_path, say=said.append)

    first = choose()
    assert (str(first), first.network, first.found["agree_noisy"]) == (f"{name} bf16", "", 1)
    assert said[-2:] == [f"checking {name} bf16, once for this model",
                         f"{name} bf16 passes its check: labels agree to 100.00 % clean and 100.00 % noisy, 0.0000 of "
                         "accuracy lost, interfaces changed by 0.00 %"]  # fmt: skip
    make = choosing.make_engine
    monkeypatch.setattr(choosing, "make_engine", None)
    assert choose() == first
    kept = Path(f"{choosing.bf16_path(model, first, tmp_path)}.json")
    for spoilt in (kept.read_text().replace(model.content, "0" * 16), kept.read_text()[:-9], ""):
        kept.write_text(spoilt)
        with pytest.raises(TypeError):
            choose()
    monkeypatch.setattr(choosing, "make_engine", make)
    assert choose() == first


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_the_check_of_bf16_runs_bf16_on_all_tiles(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tried: list[tuple[Engine, int]] = []

    def watched(fast: Engine, exact: Engine, trials: list[Trial]) -> Verdict:
        tried.append((fast, len(trials)))
        return judge(fast, exact, trials)

    monkeypatch.setattr(choosing, "judge", watched)
    choice = choice_of(name, "bf16")
    found = choosing._check(model, choice, choosing.bf16_path(model, choice, tmp_path), threads=1, say=print)
    assert found is not None
    assert 0.9 < found.agree_clean <= 1
    ((fast, tiles),) = tried
    assert tiles == 4
    again, exact = make_engine(model, choice, threads=1), TorchEngine(model.network())
    for stack in stacks(model):
        assert np.array_equal(fast.run(stack), again.run(stack))
        if name == "torch" or processors.has_bf16():  # elsewhere OpenVINO takes f32 in its place
            assert np.abs(fast.run(stack) - exact.run(stack)).max() > 1e-4


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_in_bf16_the_first_convolution_sees_what_bf16_has_no_digits_for(model: Model, name: str) -> None:
    network = model.network()
    with torch.no_grad():  # it looks at differences only, so that what all pixels have in common is gone after it
        network.first[0].weight -= network.first[0].weight.mean(dim=(1, 2, 3), keepdim=True)
    exact = TorchEngine(network)
    if name == "torch":
        rough: Engine = TorchEngine(network, precision="bf16")
    else:
        rough = openvino_engine.OpenVinoEngine(openvino_engine.convert(network), precision="bf16", threads=1)
    halo = network.config.halo
    for stack in stacks(model)[:2]:
        inner = (slice(None), slice(halo, -halo), slice(halo, -halo))  # without what sees the zeros outside
        true = exact.run(stack + 200)[inner]  # of 200 and 201 bf16 knows only 200
        assert np.ptp(true, axis=(1, 2)).max() > 0.1
        assert np.abs(rough.run(stack + 200)[inner] - true).max() < 0.2


def test_what_a_check_of_bf16_found_need_not_be_kept(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_spoiled(monkeypatch, 0.0)
    (tmp_path / "file").write_text("")
    choice = choice_of("openvino", "bf16")
    found = choosing._checked(model, choice, threads=1, cache=tmp_path / "file/cache", say=print)
    assert found is not None
    assert found.found["agree_clean"] == 1


@pytest.mark.parametrize(
    ("instructions", "has"),
    [("avx2 fma", False), ("avx512f avx512_vnni", False), ("avx512_bf16", True), ("amx_bf16", True), ("bf16", False)],
)
def test_bf16_runs_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, instructions: str, has: bool
) -> None:
    monkeypatch.setattr(processors, "_instructions", lambda: frozenset(instructions.split()))
    assert processors.has_bf16() is has


def test_bf16_runs_where_torch_multiplies_it() -> None:
    assert processors.has_bf16() == (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def test_where_an_int8_network_cant_be_kept_another_engine_runs(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    choice = choose_engine(model, asked="openvino", threads=1, cache=tmp_path / "file/cache", say=said.append)
    assert choice.precision != "int8"
    assert any("an int8 network can't be kept" in line for line in said)


def test_without_tiles_only_float32_runs(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(choosing, "has_bf16", lambda: True)
    bare = replace(model, samples=None)
    assert choose_engine(bare, asked="openvino", threads=1, cache=tmp_path, say=said.append).precision == "f32"
    assert said == [
        f"openvino {precision} needs labelled tiles to be checked on; this model carries 0"
        for precision in ("int8", "bf16")
    ]


@pytest.mark.parametrize(("asked", "extra"), [("openvino", "fast"), ("onnx", "onnx")])
def test_a_missing_extra_is_named(
    model: Model, asked: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = {"openvino": "openvino", "onnx": "onnxruntime"}[asked]
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=rf'needs {module}: pip install "tomoseg\[{extra}\]"'):
        choose_engine(model, asked=asked, threads=1, cache=tmp_path, say=print)
    assert choose_engine(model, asked="auto", threads=1, cache=tmp_path, say=print).name == "torch"


def test_another_version_is_refused(model: Model) -> None:
    choice = choosing._choice("torch").model_copy(update={"version": "1.0"})
    with pytest.raises(BegunOtherwiseError, match=r"begun with torch 1\.0, here is 2"):
        make_engine(model, choice, threads=1)


@pytest.mark.parametrize("views", [1, 2])
def test_an_exported_model_gives_torchs_probabilities_from_grey_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], views: int
) -> None:
    import onnxruntime

    model = load_model(path := make_model(tmp_path / "m.tomoseg", mirrored=views))
    out = tmp_path / "m.onnx"
    assert run(["export", str(path), "-o", str(out), "--quiet"]) == 0
    made = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    known = made.get_modelmeta().custom_metadata_map
    assert known["classes"] == '["pore", "YSZ", "Ni"]'
    assert (known["halo"], known["context"], known["model"]) == (str(model.record.network.halo), "1", model.content)
    exact = TorchEngine(model.network())
    for size in SIZES:
        grey = np.random.default_rng(1).integers(0, 40_000, (3, *size), dtype=np.uint16)
        (found,) = made.run(["probabilities"], {"grey": grey[None].astype(np.float32)})
        np.testing.assert_allclose(found[0], exact.run(model.record.window.apply(grey)), atol=1e-5)
    assert run(["export", str(path), "-o", str(out), "--quiet"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["export", str(path), "-o", str(tmp_path / "m.pt"), "--quiet"]) == 2


def test_bf16_is_close_to_float32_where_it_runs_at_all(model: Model) -> None:
    exact, rough = TorchEngine(model.network()), TorchEngine(model.network(), precision="bf16")
    assert torch.bfloat16 in {weight.dtype for weight in rough._network.parameters()}
    for stack in stacks(model):
        assert np.abs(exact.run(stack) - rough.run(stack)).max() < 0.1


FIRST_CALLS = """
import sys
import threading
from pathlib import Path

import numpy as np

sys.setswitchinterval(1e-6)  # so that threads meet where they seldom do
from tomoseg.engine.openvino_engine import OpenVinoEngine, read

engine = OpenVinoEngine(read(Path(sys.argv[1])), precision="f32", threads=1, at_a_time=4)
stack = np.zeros((int(sys.argv[2]), 64, 64), np.float32)
together = threading.Barrier(4)


def call():
    together.wait()
    engine.run(stack)


threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_calls_of_a_process_may_come_at_the_same_time(model: Model, tmp_path: Path) -> None:
    openvino_engine.save(openvino_engine.convert(model.network()), tmp_path / "network")
    words = [sys.executable, "-c", FIRST_CALLS, str(tmp_path / "network"), str(model.record.network.channels)]
    subprocess.run(words, check=True, timeout=60)
