"""One safe file for a model: weights and samples as safetensors, everything else as JSON in its header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Int32, Shaped, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tomoseg.degrade import noise_std_grey
from tomoseg.errors import ModelFileError, OutputError
from tomoseg.labels import LabelClass
from tomoseg.patches import DEFAULT_NOISE
from tomoseg.provenance import Provenance, content_hash
from tomoseg.splits import Role
from tomoseg.unet_config import UNetConfig
from tomoseg.volume.turned import Axis
from tomoseg.whole_file import whole_file
from tomoseg.window import Window

if TYPE_CHECKING:
    import torch

    from tomoseg.unet import UNet

VERSION = 1
ENDING = ".tomoseg"
MOST_SAMPLES = 64
SAMPLE_EDGE = 160
MOST_SURROUNDED = 24
"""Tiles that keep their context slices: what fitting a model to another scan learns from."""

_KIND = "tomoseg model"
_WEIGHT = "weight/"
_IMAGES, _LABELS, _AROUND, _OF = "samples/images", "samples/labels", "samples/context", "samples/slices"


class SliceRecord(BaseModel):
    """What the model remembers of a labelled slice, so that it is never tested on what it has seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scan: int = Field(description="index into the model's scans")
    name: str
    number: int = Field(description="position along the scan's axis, as the name says")
    role: Role
    content: str = Field(description="hash of the grey values")


class ScanRecord(BaseModel):
    """A scan that the model was trained on, as slices along one axis; another axis makes another record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="last part of its path")
    source: str = Field(description="hash of its whole path")
    voxel_size_um: tuple[float, float, float] | None = None
    axis: Axis = Field(default="z", description="the slices are planes across it")
    middle: str | None = Field(default=None, description="of planes across y or x: hash of the middle slice along z")


class Calibration(BaseModel):
    """How the probabilities were calibrated; the temperature is already in the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(gt=0, description="the logits were divided by it")
    noise_std: tuple[float, ...] = Field(description="of the validation data, in widths of the window")
    ece_before: tuple[float, ...] = Field(description="calibration error at interfaces at each noise_std")
    ece_after: tuple[float, ...] = Field(description="the same with the temperature")
    confidence: tuple[float, ...] = Field(description="mean probability of the predicted class, everywhere")
    accuracy: tuple[float, ...] = Field(description="share that is right, everywhere")


class Parent(BaseModel):
    """What an adapted model was made from, and for which scan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="file name of the model that it was made from")
    model: str = Field(description="hash of that model's weights")
    scan: ScanRecord = Field(description="the scan that it was fitted to, without labels")
    window: Window = Field(description="that model's window")
    noise_before: float = Field(description="std of the training scan's noise, in widths of that window")
    noise_after: float = Field(description="std of the new scan's noise, in widths of the new window")


class ModelRecord(BaseModel):
    """All of a model but its weights and samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["tomoseg model"] = "tomoseg model"
    version: Literal[1] = 1
    network: UNetConfig
    recipe: dict[str, Any] = Field(description="how it was trained")
    window: Window
    grey_type: str = Field(description="type of the training scan's grey values, like uint16")
    classes: tuple[LabelClass, ...]
    unlabelled: int | str | None = None
    scans: tuple[ScanRecord, ...]
    slices: tuple[SliceRecord, ...]
    gap: int = Field(ge=0, description="slices nearer than this to a training slice are no test")
    labelled_share: float = Field(
        default=1.0, ge=0, le=1, description="of the training slices' pixels that count, those that were labelled"
    )
    guessed: bool = Field(default=False, description="whether training learnt from guesses for the others")
    leaky: bool = Field(default=False, description="validated on neighbours of training slices (random split)")
    curve: tuple[dict[str, float], ...] = Field(default=(), description="step, seconds and mean loss along the way")
    validations: tuple[dict[str, float], ...] = Field(default=(), description="step, seconds and scores")
    calibration: Calibration | None = Field(default=None, description="temperature in the weights; None: as trained")
    parent: Parent | None = Field(default=None, description="of a model that was adapted; None: trained from nothing")
    provenance: Provenance


@dataclass(frozen=True)
class Samples:
    """Labelled tiles of the training slices, on which `evaluate` fits its baselines.

    Attributes
    ----------
    images
        Grey values (tile, y, x) in the scan's own type.
    labels
        Class indices (tile, y, x).
    around
        Grey values of the first tiles with their context slices, rising in z (some, channel, y, x); none without
        context, where the images say all.
    slices
        Which labelled slice each tile is of, counted from 0; None as an earlier version wrote it.
    """

    images: Shaped[np.ndarray, "tile y x"]
    labels: UInt8[np.ndarray, "tile y x"]
    around: Shaped[np.ndarray, "some channel y x"] | None = None
    slices: Int32[np.ndarray, " tile"] | None = None

    @property
    def stacks(self) -> Shaped[np.ndarray, "some channel y x"]:
        """What the network sees of the first tiles."""
        return self.images[:, None] if self.around is None else self.around


@dataclass(frozen=True)
class Model:
    """A trained network and all that is needed to use it and to judge it."""

    record: ModelRecord
    weights: Mapping[str, np.ndarray]
    samples: Samples | None
    place: str = "the model"

    def network(self) -> UNet:
        """Return the network with its weights, in evaluation mode.

        Raises
        ------
        ModelFileError
            If the weights do not fit it.
        """
        return network_of(self.record.network, self.weights, place=self.place)

    @property
    def content(self) -> str:
        """Hash of the weights, and of how many views prediction averages over where it is more than one."""
        views = self.record.network.mirrored
        weights = [self.weights[name] for name in sorted(self.weights)]
        return content_hash(*weights, *([np.array(views)] if views > 1 else []))


def network_of(config: UNetConfig, weights: Mapping[str, np.ndarray], *, place: str = "the model") -> UNet:
    """Return a network with given weights, in evaluation mode.

    Raises
    ------
    ModelFileError
        If the weights do not fit it; `place` is named.
    """
    import torch

    from tomoseg.unet import UNet

    network = UNet(config)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if odd:
        raise ModelFileError(
            f"{place}: {len(odd)} weights do not fit the network, the first {odd[0]} of shape {found.get(odd[0])}"
        )
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return network.eval()


def trained_noise(record: ModelRecord) -> float:
    """Return the largest std of added noise that a model was trained with, in widths of its window."""
    given = record.provenance.settings.get("noise_std") or record.recipe["patches"]["noise_std"]
    if given is None:
        return DEFAULT_NOISE
    grey = noise_std_grey(float(given[1]), dtype=np.dtype(record.grey_type), window=record.window)
    return grey / record.window.width


def weights_of(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return a network's state as arrays."""
    return {name: value.detach().cpu().contiguous().numpy().copy() for name, value in state.items()}


def check_model_target(path: Path, *, force: bool) -> None:
    """Refuse a place where no model can be written; nothing is created.

    Raises
    ------
    OutputError
        If the name does not end in .tomoseg, something is there and `force` is off, or the folder cannot be written.
    """
    if path.suffix != ENDING:
        raise OutputError(f"{path}: a model file's name ends in {ENDING}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; choose another name")
    near = next(parent for parent in path.absolute().parents if parent.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {near}, or it is no folder")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; choose another name, replace it with --force, or go on with --resume")


def save_model(path: Path, model: Model) -> None:
    """Write a model file, whole or not at all; what was there is replaced.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    tensors = {_WEIGHT + name: value for name, value in model.weights.items()}
    if model.samples is not None:
        tensors |= {_IMAGES: model.samples.images, _LABELS: model.samples.labels}
        some = {_AROUND: model.samples.around, _OF: model.samples.slices}
        tensors |= {name: values for name, values in some.items() if values is not None}
    save_tensors(path, tensors, json.loads(model.record.model_dump_json()))


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Write arrays and a JSON record as safetensors, whole or not at all.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    with whole_file(path) as draft:
        try:
            save_file(contiguous, draft, metadata={"tomoseg": json.dumps(record)})
        except SafetensorError as error:
            raise OutputError(f"{path}: cannot be written: {error}") from error


def load_tensors(path: Path, *, what: str = "model") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays and the JSON record that `save_tensors` wrote; nothing in the file is executed.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, of another kind, or a pickle.
    """
    _refuse_others(path, what)
    try:
        with safe_open(path, framework="numpy") as file:
            record = json.loads((file.metadata() or {}).get("tomoseg", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise ModelFileError(f"{path}: no {what} of tomoseg, damaged or truncated: {error}") from error
    if not isinstance(record, dict):
        raise ModelFileError(f"{path}: holds weights without tomoseg's record; `tomoseg train` writes {what} files")
    return tensors, record


def _refuse_others(path: Path, what: str) -> None:
    if path.is_dir():
        raise ModelFileError(f"{path}: is a folder; a {what} file is wanted here")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such {what} file; `tomoseg train` makes one") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    # Eight bytes of length and a brace begin a safetensors file; the length may look like anything.
    if start[8:] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
        raise ModelFileError(
            f"{path}: is a pickle or an archive, as torch.save writes; such files can run code and are not opened. "
            f"`tomoseg train` writes safe {what} files"
        )


def load_model(path: Path) -> Model:
    """Read a model file.

    Raises
    ------
    ModelFileError
        If it is no model file of this version: another version, truncated, a pickle.
    """
    tensors, record = load_tensors(path)
    _check_version(path, record)
    try:
        checked = ModelRecord.model_validate_json(json.dumps(record))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelFileError(f"{path}: its record is damaged at {place!r}: {first['msg']}") from error
    weights = {name.removeprefix(_WEIGHT): value for name, value in tensors.items() if name.startswith(_WEIGHT)}
    if checked.network.classes != len(checked.classes):
        raise ModelFileError(f"{path}: {len(checked.classes)} classes for a network of {checked.network.classes}")
    return Model(checked, weights, _samples(path, tensors, checked.network), str(path))


def _check_version(path: Path, record: Mapping[str, Any]) -> None:
    if record.get("kind") != _KIND:
        raise ModelFileError(f"{path}: is no model file but a {record.get('kind', 'file of unknown kind')!r}")
    if record.get("version") != VERSION:
        raise ModelFileError(
            f"{path}: is of version {record.get('version')!r}; this tomoseg reads version {VERSION}. Train again, or "
            "install the tomoseg that wrote it"
        )


def _samples(path: Path, tensors: Mapping[str, np.ndarray], network: UNetConfig) -> Samples | None:
    if _IMAGES not in tensors or _LABELS not in tensors:
        return None
    images, labels, around = tensors[_IMAGES], tensors[_LABELS], tensors.get(_AROUND)
    known = (labels < network.classes) | (labels == 255)
    if images.shape != labels.shape or images.ndim != 3 or labels.dtype != np.uint8 or not known.all():
        raise ModelFileError(f"{path}: its samples are damaged: {images.shape} images, {labels.shape} labels")
    if around is not None and (len(around) > len(images) or around.shape[1:] != (network.channels, *images.shape[1:])):
        raise ModelFileError(f"{path}: its samples are damaged: {images.shape} images, {around.shape} with context")
    of = tensors.get(_OF)
    if of is not None and (of.shape != images.shape[:1] or of.dtype != np.int32):
        raise ModelFileError(f"{path}: its samples are damaged: {images.shape} images of slices {of.shape}")
    return Samples(images, labels, around, of)
