"""Label pictures to class indices and back: values, colours, names, order, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tomoseg.errors import LabelError, SettingError
from tomoseg.labels import (
    MOST_CLASSES,
    UNLABELLED,
    LabelClass,
    class_shares,
    decode,
    encode,
    find_classes,
    outside_value,
    parse_classes,
    parse_value,
)
from tomoseg.volume import open_pictures

GREY = {"pore": 0, "YSZ": 128, "Ni": 255}
BANDS = np.repeat(np.array([[0, 128, 255]], np.uint8), 4, axis=1).repeat(6, axis=0)
"""Three classes in bands four pixels wide, (6, 12)."""

BLUE, RED, GREEN = (0, 0, 255), (255, 0, 0), (0, 255, 0)
COLOURED = np.repeat(np.array([[BLUE, RED, GREEN]], np.uint8), 4, axis=1).repeat(6, axis=0)


def classes_of(values: dict[str, int | str]) -> tuple[LabelClass, ...]:
    return tuple(LabelClass(name=name, value=value, colour="#000000") for name, value in values.items())


def smoothed(labels: np.ndarray) -> np.ndarray:
    """Return labels whose edges are one pixel of the mean of both sides, as careless saving makes them."""
    soft = labels.copy()
    soft[:, 4] = 64
    soft[:, 8] = 191
    return soft


def test_grey_values_become_indices_by_rising_value() -> None:
    found = find_classes([("a.tif", BANDS)])
    assert [(c.name, c.value) for c in found] == [("class_0", 0), ("class_128", 128), ("class_255", 255)]
    assert encode(BANDS, found)[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_class_indices_are_their_own_values() -> None:
    indices = (BANDS // 127).astype(np.uint8)
    found = find_classes([("a.tif", indices)])
    assert [c.value for c in found] == [0, 1, 2]
    assert np.array_equal(encode(indices, found), indices)


def test_colours_become_classes_named_and_shown_in_their_colour() -> None:
    found = find_classes([("a.png", COLOURED)])
    assert [(c.name, c.value, c.colour) for c in found] == [
        ("class_0000ff", "#0000ff", "#0000ff"),
        ("class_00ff00", "#00ff00", "#00ff00"),
        ("class_ff0000", "#ff0000", "#ff0000"),
    ]
    assert encode(COLOURED, found)[0].tolist() == [0] * 4 + [2] * 4 + [1] * 4


def test_a_palette_picture_is_known_by_its_colours_not_its_indices(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray((BANDS // 127).astype(np.uint8), mode="P")
    image.putpalette([*BLUE, *RED, *GREEN])
    image.save(path)
    picture = open_pictures(path).read_picture(0)
    stated = parse_classes(["pore=#0000ff", "quartz=#FF0000", "clay=#00ff00"])
    found = find_classes([("a.png", picture)], stated=stated)
    assert [c.name for c in found] == ["pore", "quartz", "clay"]
    assert encode(picture, found)[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_stated_classes_keep_their_names_and_their_order() -> None:
    found = find_classes([("a.tif", BANDS)], stated={"Ni": 255, "pore": 0, "YSZ": 128})
    assert [(c.name, c.value) for c in found] == [("Ni", 255), ("pore", 0), ("YSZ", 128)]
    assert encode(BANDS, found)[0].tolist() == [1] * 4 + [2] * 4 + [0] * 4


def test_a_stated_class_that_no_picture_shows_keeps_its_place() -> None:
    found = find_classes([("a.tif", BANDS)], stated=GREY | {"crack": 7})
    assert [c.name for c in found] == ["pore", "YSZ", "Ni", "crack"]


@given(st.permutations(range(4)))
@settings(deadline=None)
def test_the_order_of_the_pictures_does_not_change_the_classes(order: list[int]) -> None:
    thin = np.where(np.arange(12) == 5, 128, 0).astype(np.uint8)[None].repeat(6, axis=0)
    pictures = [("0", BANDS), ("1", BANDS[:, :8]), ("2", thin), ("3", BANDS[:, 4:])]
    assert find_classes([pictures[i] for i in order]) == find_classes(pictures)


@given(arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 128, 255])), st.permutations(range(3)))
@settings(deadline=None)
def test_permuting_the_classes_permutes_the_indices(picture: np.ndarray, order: list[int]) -> None:
    names = list(GREY)
    plain = encode(picture, classes_of(GREY))
    permuted = encode(picture, classes_of({names[i]: GREY[names[i]] for i in order}))
    assert np.array_equal(np.array(order)[permuted], plain)


@given(
    arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 128, 255])),
    st.text(max_size=9).map(lambda text: f"my {text}"),
)
@settings(deadline=None)
def test_renaming_a_class_changes_no_index(picture: np.ndarray, name: str) -> None:
    renamed = classes_of({name if old == "YSZ" else old: value for old, value in GREY.items()})
    assert np.array_equal(encode(picture, renamed), encode(picture, classes_of(GREY)))


LABEL_VALUES = st.lists(st.integers(-(2**15), 2**16 - 1), min_size=2, max_size=MOST_CLASSES, unique=True)


@given(LABEL_VALUES, st.data())
@settings(deadline=None)
def test_decoding_what_was_encoded_is_the_identity(values: list[int], data: st.DataObject) -> None:
    picture = data.draw(arrays(np.int32, (3, 4), elements=st.sampled_from(values)))
    classes = classes_of({f"class_{v}": v for v in values})
    written = decode(encode(picture, classes), classes, outside=outside_value(classes))
    assert np.array_equal(written, picture)


def test_colours_come_back_as_colours() -> None:
    classes = find_classes([("a.png", COLOURED)])
    written = decode(encode(COLOURED, classes), classes, outside=0xFFFFFF)
    assert written.dtype == np.uint8
    assert np.array_equal(written, COLOURED)
    assert decode(np.array([[UNLABELLED]], np.uint8), classes, outside=0x102030).tolist() == [[[16, 32, 48]]]


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (256, np.uint16), (65536, np.uint32)])
def test_values_are_written_in_the_smallest_integers_that_hold_them(top: int, dtype: type) -> None:
    classes = classes_of({"a": 0, "b": top})
    assert decode(np.array([[0, 1]], np.uint8), classes, outside=3).dtype == dtype


def test_outside_is_the_users_value_else_the_largest_that_is_free() -> None:
    assert outside_value(classes_of(GREY), 7) == 7
    assert outside_value(classes_of(GREY)) == 254
    assert outside_value(classes_of({"a": 0, "b": 300})) == 65535
    assert outside_value(classes_of({"a": "#ffffff", "b": "#000000"})) == 0xFFFFFE


def test_soft_edges_are_refused_with_their_values_and_how_many_pixels() -> None:
    with pytest.raises(
        LabelError, match=r"nowhere three pixels wide: 64 \(12 pixels\), 191 \(12 pixels\)\. Soft edges"
    ):
        find_classes([("a.tif", smoothed(BANDS)), ("b.tif", smoothed(BANDS))])


def test_soft_edges_between_stated_classes_are_refused_with_the_picture() -> None:
    with pytest.raises(
        LabelError,
        match=r"b\.tif holds values that are no class: 64 \(6 pixels\), 191 \(6 pixels\); "
        r"the classes are 0 pore, 128 YSZ, 255 Ni",
    ):
        find_classes([("a.tif", BANDS), ("b.tif", smoothed(BANDS))], stated=GREY)


def test_soft_edges_in_colour_are_shown_as_colours() -> None:
    soft = COLOURED.copy()
    soft[:, 4] = (128, 0, 128)
    with pytest.raises(LabelError, match=r"#800080 \(6 pixels\)"):
        find_classes([("a.png", soft)])


def test_a_class_that_is_thin_in_one_picture_and_wide_in_another_is_a_class() -> None:
    thin = np.where(np.arange(12) == 5, 255, BANDS[0] // 128 * 128).astype(np.uint8)[None].repeat(6, axis=0)
    for pictures in ([("a", BANDS), ("b", thin)], [("b", thin), ("a", BANDS)]):
        assert [c.value for c in find_classes(pictures)] == [0, 128, 255]


def test_two_thin_classes_are_no_soft_edge() -> None:
    checkerboard = (np.indices((6, 6)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert [c.value for c in find_classes([("a.tif", checkerboard)])] == [0, 255]


@pytest.mark.parametrize("per_picture", [1, 33])
def test_one_class_too_many_is_refused_also_where_no_single_picture_has_them(per_picture: int) -> None:
    values = np.arange(MOST_CLASSES + 1, dtype=np.uint8)
    wide = [np.full((3, 3), v, np.uint8) for v in values]
    pictures = wide if per_picture == 1 else [np.hstack(wide)]
    with pytest.raises(LabelError, match=r"hold 33 different values, the commonest .* at most 32 can be classes"):
        find_classes([(f"{i}.tif", picture) for i, picture in enumerate(pictures)])
    kept = find_classes([(f"{i}.tif", picture) for i, picture in enumerate(wide[:-1])])
    assert len(kept) == MOST_CLASSES
    assert len({c.colour for c in kept}) == MOST_CLASSES


def test_a_long_list_of_offending_values_is_cut_and_counted() -> None:
    strange = np.arange(1, 13, dtype=np.uint8)[None]
    with pytest.raises(LabelError, match=r"8 \(1 pixels\) and 4 more values; the classes are"):
        encode(strange, classes_of({"pore": 0, "Ni": 255}))


@pytest.mark.parametrize("pictures", [[np.zeros((4, 4), np.uint8)], []])
def test_fewer_than_two_classes_are_refused(pictures: list[np.ndarray]) -> None:
    with pytest.raises(LabelError, match=r"one class only \(value (0|none at all)\)"):
        find_classes([("a.tif", picture) for picture in pictures])


def test_the_unlabelled_value_is_no_class_and_counts_nowhere() -> None:
    picture = BANDS.copy()
    picture[0, :3] = 7
    found = find_classes([("a.tif", picture)], unlabelled=7)
    assert [c.value for c in found] == [0, 128, 255]
    index = encode(picture, found, unlabelled=7)
    assert index[0].tolist() == [UNLABELLED] * 3 + [0] + [1] * 4 + [2] * 4
    assert class_shares(index, 3) == pytest.approx(np.array([21, 24, 24]) / 69)


def test_the_unlabelled_colour_is_no_class() -> None:
    found = find_classes([("a.png", COLOURED)], unlabelled="#00ff00")
    assert [c.value for c in found] == ["#0000ff", "#ff0000"]
    assert encode(COLOURED, found, unlabelled="#00ff00")[0].tolist() == [0] * 4 + [1] * 4 + [UNLABELLED] * 4


def test_a_class_that_is_also_unlabelled_is_refused() -> None:
    with pytest.raises(SettingError, match="128 is given as a class and by --unlabelled"):
        find_classes([("a.tif", BANDS)], stated=GREY, unlabelled=128)


def test_a_forgotten_class_is_named_with_its_pixels() -> None:
    message = r"slice_0412\.tif holds values that are no class: 128 \(24 pixels\); the classes are 0 pore, 255 Ni\. Add"
    with pytest.raises(LabelError, match=message):
        find_classes([("slice_0412.tif", BANDS)], stated={"pore": 0, "Ni": 255})
    with pytest.raises(LabelError, match=message):
        encode(BANDS, classes_of({"pore": 0, "Ni": 255}), where="slice_0412.tif")


def test_the_grey_value_255_is_not_the_colour_blue() -> None:
    blue = {"pore": "#000000", "Ni": "#0000ff"}
    picture = np.array([[0, 255]], np.uint8)
    with pytest.raises(LabelError, match=r"a\.tif holds a grey value a pixel, but #000000 is a colour"):
        find_classes([("a.tif", picture)], stated=blue)
    with pytest.raises(LabelError, match="the label holds a grey value a pixel, but #000000 is a colour"):
        encode(picture, classes_of(blue))
    with pytest.raises(LabelError, match=r"a\.png holds a colour a pixel, but 7 is a grey value; state colours"):
        find_classes([("a.png", COLOURED)], unlabelled=7)


def test_colours_among_grey_pictures_are_refused() -> None:
    with pytest.raises(LabelError, match=r"b\.png is colour, the pictures before it are not"):
        find_classes([("a.tif", BANDS), ("b.png", COLOURED)])


def test_whole_numbers_stored_as_floats_are_labels_and_fractions_are_not() -> None:
    assert [c.value for c in find_classes([("a.tif", BANDS.astype(np.float32))])] == [0, 128, 255]
    with pytest.raises(LabelError, match=r"a\.tif holds 2 pixels that are no whole number, the first 0\.5;"):
        find_classes([("a.tif", np.array([[0.0, 0.5], [1.0, 1.5]]))])


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("128", 128), ("-1", -1), ("#FF00aa", "#ff00aa")])
def test_values_are_read_as_the_user_writes_them(text: str, value: int | str) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["", "red", "#f00", "1.5", "0x10", "#gg0000", "1e3", "9999999999"])
def test_what_is_neither_value_nor_colour_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match=r"is neither a grey value like 128 nor a colour like #ff0000"):
        parse_value(text)


@pytest.mark.parametrize("texts", [["pore"], ["=0"], ["pore="]])
def test_classes_of_another_form_are_refused(texts: list[str]) -> None:
    with pytest.raises(SettingError):
        parse_classes(texts)


@pytest.mark.parametrize("texts", [["a=0", "a=1"], ["a=0", "b=0"], ["a=#00ff00", "b=#00FF00"]])
def test_a_name_or_value_given_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(SettingError, match="twice; each class needs its own"):
        parse_classes(texts)


def test_more_than_32_stated_classes_are_refused() -> None:
    with pytest.raises(SettingError, match="--classes states 33 classes; at most 32"):
        find_classes([("a.tif", BANDS)], stated={str(v): v for v in range(33)})


def test_shares_of_an_unlabelled_picture_are_zero() -> None:
    assert class_shares(np.full((2, 2), UNLABELLED, np.uint8), 3).tolist() == [0, 0, 0]


def test_encoding_does_not_touch_the_picture() -> None:
    picture = BANDS.copy()
    encode(picture, find_classes([("a.tif", picture)]))
    assert np.array_equal(picture, BANDS)
