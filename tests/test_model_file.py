import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tomoseg.errors import ModelFileError
from tomoseg.labels import LabelClass
from tomoseg.model_file import (
    Model,
    ModelRecord,
    Samples,
    ScanRecord,
    SliceRecord,
    load_model,
    save_model,
    weights_of,
)
from tomoseg.provenance import record
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig
from tomoseg.window import Window


def model(widths=(2, 3)):
    config = UNetConfig(classes=2, widths=widths, bottleneck=4)
    classes = (LabelClass(name="pore", value=0, colour="#000000"), LabelClass(name="Ni", value=255, colour="#ffffff"))
    made = ModelRecord(
        network=config,
        recipe={"widths": list(widths)},
        window=Window(low=1.5, high=9.25),
        grey_type="uint16",
        classes=classes,
        scans=(ScanRecord(name="a", source="0" * 16),),
        slices=(SliceRecord(scan=0, name="s_1.tif", number=1, role="train", content="f" * 16),),
        gap=5,
        provenance=record("train", seed=3),
    )
    samples = Samples(np.arange(32, dtype=np.uint16).reshape(2, 4, 4), np.eye(4, dtype=np.uint8)[None].repeat(2, 0))
    return Model(made, weights_of(UNet(config).state_dict()), samples)


def test_save_then_load_is_the_identity(tmp_path):
    before = model()
    save_model(tmp_path / "m.tomoseg", before)
    after = load_model(tmp_path / "m.tomoseg")
    assert after.record == before.record
    assert after.content == before.content
    assert {n: v.shape for n, v in after.weights.items()} == {n: v.shape for n, v in before.weights.items()}
    np.testing.assert_array_equal(after.samples.images, before.samples.images)
    np.testing.assert_array_equal(after.samples.labels, before.samples.labels)


def test_models_that_average_over_other_views_are_not_the_same():
    made = model()
    views = [made.record.network.model_copy(update={"mirrored": n}) for n in (1, 2, 4)]
    contents = [replace(made, record=made.record.model_copy(update={"network": one})).content for one in views]
    assert contents[0] == made.content
    assert len(set(contents)) == 3


def test_files_load_whatever_the_length_of_their_header(tmp_path):
    for extra in range(40):
        path = tmp_path / f"{extra}.tomoseg"
        made = model()
        longer = made.record.model_copy(update={"recipe": {"note": "x" * 8 * extra}})
        save_model(path, Model(longer, made.weights, None))
        assert load_model(path).samples is None


def refused(path):
    with pytest.raises(ModelFileError) as caught:
        load_model(path).network()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_pickle_in_disguise_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").mkdir, ())

    for name, write in {"p": lambda f: f.write(pickle.dumps(Trap())), "t": lambda f: torch.save(Trap(), f)}.items():
        path = tmp_path / f"{name}.tomoseg"
        with path.open("wb") as file:
            write(file)
        assert "pickle" in refused(path)
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path):
    save_model(tmp_path / "m.tomoseg", model())
    whole = (tmp_path / "m.tomoseg").read_bytes()
    for length in (0, 1, 8, 9, 200, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.tomoseg"
        path.write_bytes(whole[:length])
        refused(path)


def test_another_version_is_refused_by_its_number(tmp_path):
    plain = json.loads(model().record.model_dump_json()) | {"version": 7}
    save_file({"x": np.zeros(1)}, tmp_path / "v.tomoseg", metadata={"tomoseg": json.dumps(plain)})
    assert "version 7" in refused(tmp_path / "v.tomoseg")


def test_other_safetensors_and_missing_files_are_refused(tmp_path):
    save_file({"x": np.zeros(1)}, tmp_path / "o.tomoseg")
    refused(tmp_path / "o.tomoseg")
    assert "no such model" in refused(tmp_path / "none.tomoseg")


def test_weights_that_do_not_fit_the_network_are_refused(tmp_path):
    made = model()
    save_model(tmp_path / "w.tomoseg", Model(made.record, model((2, 5)).weights, None))
    assert "do not fit" in refused(tmp_path / "w.tomoseg")


def test_a_failed_write_leaves_the_old_model(tmp_path, monkeypatch):
    save_model(tmp_path / "m.tomoseg", model())
    before = (tmp_path / "m.tomoseg").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tomoseg.model_file.save_file", full)
    with pytest.raises(Exception, match="No space left"):
        save_model(tmp_path / "m.tomoseg", model())
    assert (tmp_path / "m.tomoseg").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.tomoseg"]
