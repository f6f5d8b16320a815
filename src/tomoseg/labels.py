"""Classes, their colours, and label pictures turned into class indices and back."""

from __future__ import annotations

import colorsys
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Shaped, UInt8
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from tomoseg.errors import LabelError, SettingError

UNLABELLED = 255
"""Class index of pixels that nobody labelled, or that lie outside the mask: no loss, no score."""

MOST_CLASSES = 32

Picture = Shaped[np.ndarray, "y x *channel"]
Index = UInt8[np.ndarray, "y x"]
Value = int | str
"""How a label picture writes a class: a grey value or index, or a colour like `#ff0000`."""

# Okabe and Ito's colours, which colour-blind readers can tell apart (https://jfly.uni-koeln.de/color/).
_PALETTE = ("#0072b2", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#d55e00", "#f0e442", "#000000")


class LabelClass(BaseModel):
    """One class: its name, how the user's label pictures write it, and the colour to show it in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    value: int | str = Field(description="grey value or index in the label pictures, or a colour like #ff0000")
    colour: str = Field(pattern=r"^#[0-9a-f]{6}$", description="colour in reports")


def parse_value(text: str) -> Value:
    """Read a grey value or a colour as the user writes it.

    Examples
    --------
    >>> parse_value("128"), parse_value("#FF0000")
    (128, '#ff0000')

    Raises
    ------
    SettingError
        If `text` is neither.
    """
    if re.fullmatch(r"-?\d{1,9}", text):
        return int(text)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return text.lower()
    raise SettingError(f"{text!r} is neither a grey value like 128 nor a colour like #ff0000")


def parse_classes(texts: Sequence[str]) -> dict[str, Value]:
    """Read `NAME=VALUE` or `NAME=#rrggbb`, in the order given.

    Examples
    --------
    >>> parse_classes(["pore=0", "YSZ=128"])
    {'pore': 0, 'YSZ': 128}

    Raises
    ------
    SettingError
        If one has another form, or a name or a value comes twice.
    """
    stated: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not (name and equals):
            raise SettingError(f"--classes {text!r} is not of the form NAME=VALUE, like pore=0 or clay=#00ff00")
        parsed = parse_value(value)
        if name in stated or parsed in stated.values():
            raise SettingError(f"--classes names {name!r} or the value {parsed} twice; each class needs its own")
        stated[name] = parsed
    return stated


def picture_values(picture: Picture, *, where: str) -> Shaped[np.ndarray, "y x"]:
    """Return one integer a pixel: the grey value, or red, green, blue packed as 0xRRGGBB, int64 (y, x).

    Raises
    ------
    LabelError
        If a float picture holds a value that is no whole number.
    """
    if picture.ndim == 3:
        red, green, blue = (picture[..., channel].astype(np.int64) for channel in range(3))
        return (red << 16) | (green << 8) | blue
    if np.issubdtype(picture.dtype, np.floating):
        odd = ~(picture == np.round(picture))
        if odd.any():
            raise LabelError(
                f"{where} holds {int(odd.sum())} pixels that are no whole number, the first {picture[odd][0]:g}; "
                "labels are grey values, class indices or colours"
            )
    return picture.astype(np.int64)


def _shown(value: int, *, coloured: bool) -> Value:
    return f"#{value:06x}" if coloured else value


def _packed(value: Value) -> int:
    return int(value[1:], 16) if isinstance(value, str) else value


def find_classes(
    pictures: Iterable[tuple[str, Shaped[np.ndarray, " ..."]]],
    *,
    stated: Mapping[str, Value] | None = None,
    unlabelled: Value | None = None,
) -> tuple[LabelClass, ...]:
    """Return the classes of a set of label pictures, in a stable order.

    Parameters
    ----------
    pictures
        Name and pixels of each label picture: grey (y, x) or colour (y, x, 3).
    stated
        Name -> value as the user stated them; their order is the classes' order. Without it every value that
        occurs is a class, by rising value, named after it.
    unlabelled
        The value that means "not labelled".

    Raises
    ------
    LabelError
        If a picture holds values that are no class (soft edges, a forgotten class), if grey and colour pictures
        are mixed or stated in the other's way, or if fewer than two classes, or more than 32, occur.
    SettingError
        If more than 32 classes are stated, or one of them also as `unlabelled`.

    Examples
    --------
    >>> labels = np.array([[0, 0, 255]], np.uint8)
    >>> [item.name for item in find_classes([("a.tif", labels)])]
    ['class_0', 'class_255']
    >>> [item.name for item in find_classes([("a.tif", labels)], stated={"Ni": 255, "pore": 0})]
    ['Ni', 'pore']
    """
    known = _known_values(stated, unlabelled)
    counts: Counter[int] = Counter()
    wide: set[int] = set()
    coloured: bool | None = None
    for where, picture in pictures:
        if coloured is None:
            coloured = _check_kind(picture, [*known.values(), unlabelled], where=where)
        elif coloured != (picture.ndim == 3):
            raise LabelError(f"{where} is {'grey' if coloured else 'colour'}, the pictures before it are not")
        values = picture_values(picture, where=where)
        found = _count(values, set() if unlabelled is None else {_packed(unlabelled)})
        if stated:
            strange = {value: n for value, n in found.items() if value not in known}
            _refuse_strangers(where, strange, stated, coloured)
        counts.update(found)
        _refuse_many(where, counts, coloured)
        wide |= {value for value in found.keys() - wide if _has_interior(values == value)}
    if not stated and len(counts) > 2:
        _refuse_soft({value: n for value, n in counts.items() if value not in wide}, bool(coloured))
    if len(counts) < 2:
        only = ", ".join(str(_shown(value, coloured=bool(coloured))) for value in counts) or "none at all"
        raise LabelError(f"the labels hold one class only (value {only}); a segmentation needs at least two")
    return _name_classes(sorted(counts), coloured=bool(coloured), stated=stated)


def _known_values(stated: Mapping[str, Value] | None, unlabelled: Value | None) -> dict[int, Value]:
    """Return the stated classes' values by their packed form, having checked them against `unlabelled`."""
    known = {_packed(value): value for value in (stated or {}).values()}
    if len(known) > MOST_CLASSES:
        raise SettingError(f"--classes states {len(known)} classes; at most {MOST_CLASSES} are possible")
    if unlabelled is not None and unlabelled in known.values():
        raise SettingError(f"{unlabelled} is given as a class and by --unlabelled; it can only be one of them")
    return known


def _check_kind(picture: Picture, values: Iterable[Value | None], *, where: str) -> bool:
    """Return whether `picture` has colours; refuse grey values stated for it then, and colours otherwise.

    Packed into one number, #0000ff and the grey value 255 would be the same.
    """
    coloured = picture.ndim == 3
    kinds = ("colour", "grey value") if coloured else ("grey value", "colour")
    for value in values:
        if value is not None and isinstance(value, str) != coloured:
            raise LabelError(f"{where} holds a {kinds[0]} a pixel, but {value} is a {kinds[1]}; state {kinds[0]}s")
    return coloured


def _count(values: Shaped[np.ndarray, "y x"], ignored: set[int]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return {int(v): int(n) for v, n in zip(found, counts, strict=True) if int(v) not in ignored}


def _has_interior(mask: Shaped[np.ndarray, "y x"]) -> bool:
    # A class has places three pixels wide; the rim that smoothing or JPEG leaves between two classes has none.
    return bool(ndimage.minimum_filter(mask, size=3).any())


def _listed(found: Mapping[int, int], coloured: bool) -> str:
    most = sorted(found.items(), key=lambda item: -item[1])[:8]
    text = ", ".join(f"{_shown(v, coloured=coloured)} ({n} pixels)" for v, n in most)
    return text + (f" and {len(found) - 8} more values" if len(found) > 8 else "")


def _refuse_strangers(where: str, strange: Mapping[int, int], stated: Mapping[str, Value], coloured: bool) -> None:
    if strange:
        known = ", ".join(f"{value} {name}" for name, value in stated.items())
        raise LabelError(
            f"{where} holds values that are no class: {_listed(strange, coloured)}; the classes are {known}. "
            "Add them to --classes, name one with --unlabelled, or save the labels without smoothing"
        )


def _refuse_many(where: str, found: Mapping[int, int], coloured: bool) -> None:
    if len(found) > MOST_CLASSES:
        raise LabelError(
            f"the labels up to {where} hold {len(found)} different values, the commonest {_listed(found, coloured)}; "
            f"at most {MOST_CLASSES} can be classes. Are these the images, or labels saved with soft edges?"
        )


def _refuse_soft(soft: Mapping[int, int], coloured: bool) -> None:
    if soft:
        raise LabelError(
            f"the labels hold values that are nowhere three pixels wide: {_listed(soft, coloured)}. Soft edges come "
            "from saving labels as JPEG or rescaling them with smoothing; save them without. If they are thin "
            "strokes or true classes, name each with --classes NAME=VALUE ..., and what nobody labelled with "
            "--unlabelled VALUE"
        )


def _name_classes(
    found: Sequence[int], *, coloured: bool, stated: Mapping[str, Value] | None
) -> tuple[LabelClass, ...]:
    shown = [_shown(value, coloured=coloured) for value in found]
    named = dict(stated) if stated else {f"class_{str(value).lstrip('#')}": value for value in shown}
    return tuple(
        LabelClass(
            name=name,
            value=value,
            colour=value if isinstance(value, str) else class_colour(order),
        )
        for order, (name, value) in enumerate(named.items())
    )


def class_colour(order: int) -> str:
    """Return a colour for the class `order`, unlike those before it: hues a golden section apart after the palette."""
    if order < len(_PALETTE):
        return _PALETTE[order]
    channels = colorsys.hls_to_rgb(order * 0.618034 % 1, 0.35 + 0.3 * (order % 2), 0.6)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def encode(
    picture: Picture,
    classes: Sequence[LabelClass],
    *,
    unlabelled: Value | None = None,
    where: str = "the label",
) -> Index:
    """Turn a label picture into class indices, uint8 (y, x); `UNLABELLED` where nobody labelled.

    Raises
    ------
    LabelError
        If the picture holds a value that is neither a class nor `unlabelled`.

    Examples
    --------
    >>> pair = [LabelClass(name="pore", value=0, colour="#000000"), LabelClass(name="Ni", value=255, colour="#ffffff")]
    >>> encode(np.array([[0, 255, 7]], np.uint8), pair, unlabelled=7)
    array([[  0,   1, 255]], dtype=uint8)
    """
    _check_kind(picture, [*(item.value for item in classes), unlabelled], where=where)
    values = picture_values(picture, where=where)
    index = np.full(values.shape, UNLABELLED, np.uint8)
    known = np.zeros(values.shape, bool) if unlabelled is None else values == _packed(unlabelled)
    for order, item in enumerate(classes):
        chosen = values == _packed(item.value)
        index[chosen] = order
        known |= chosen
    if not known.all():
        strange = _count(np.where(known, -1, values), {-1})
        stated = {item.name: item.value for item in classes}
        _refuse_strangers(where, strange, stated, picture.ndim == 3)
    return index


def decode(index: Index, classes: Sequence[LabelClass], *, outside: int) -> Shaped[np.ndarray, "y x *channel"]:
    """Write class indices with the user's own values: the smallest integers (y, x), or uint8 (y, x, 3) for colours.

    `UNLABELLED` pixels get `outside` (for colours packed as 0xRRGGBB).

    Examples
    --------
    >>> pair = [LabelClass(name="pore", value=0, colour="#000000"), LabelClass(name="Ni", value=255, colour="#ffffff")]
    >>> decode(np.array([[1, 0, 255]], np.uint8), pair, outside=7)
    array([[255,   0,   7]], dtype=uint8)
    """
    table = np.full(256, outside, np.int64)
    table[: len(classes)] = [_packed(item.value) for item in classes]
    values = table[index]
    if isinstance(classes[0].value, str):
        return np.stack([values >> 16, values >> 8, values], axis=-1).astype(np.uint8)
    return np.asarray(values, np.result_type(*map(np.min_scalar_type, (table.min(), table.max()))))


def outside_value(classes: Sequence[LabelClass], unlabelled: Value | None = None) -> int:
    """Return the value for pixels outside the mask: the user's "not labelled", else the largest one that is free.

    Examples
    --------
    >>> outside_value([LabelClass(name="Ni", value=255, colour="#ffffff")])
    254
    """
    if unlabelled is not None:
        return _packed(unlabelled)
    taken = {_packed(item.value) for item in classes}
    top: int = 0xFFFFFF if isinstance(classes[0].value, str) else 255 if max(taken) < 256 else 65535
    return next(value for value in range(top, -1, -1) if value not in taken)


def class_shares(index: UInt8[np.ndarray, ...], n_classes: int) -> Shaped[np.ndarray, " class"]:
    """Return each class's share of the labelled pixels, float64 (class,); zeros where nothing is labelled.

    Examples
    --------
    >>> class_shares(np.array([[0, 0, 1, 255]], np.uint8), 2)
    array([0.66666667, 0.33333333])
    """
    counts = np.bincount(index.ravel(), minlength=256)[:n_classes]
    return np.asarray(counts / max(1, int(counts.sum())))
