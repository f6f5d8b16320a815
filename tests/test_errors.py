"""The error family: its drawing is its code, and the user's mistakes end with exit code 2 and one line."""

import inspect
import re
from pathlib import Path

import pytest

from tomoseg import errors
from tomoseg.cli import USERS_INPUT, run
from tomoseg.errors import InputError, TomosegError


def drawn() -> dict[str, str]:
    """Return child -> parent as the module's docstring draws them."""
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"[ │├└─]*\b(\w+Error)\b", line)
        if found:
            path = [(depth, name) for depth, name in path if depth < found.start(1)]
            if path:
                parents[found[1]] = path[-1][1]
            path.append((found.start(1), found[1]))
    return parents


def family() -> dict[str, type[TomosegError]]:
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: item for name, item in classes if item.__module__ == errors.__name__}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    found = {name: item.__bases__[0].__name__ for name, item in family().items() if item is not TomosegError}
    assert drawn() == found


def test_all_errors_of_the_user_are_input_errors() -> None:
    assert len(family()) == 10
    assert all(issubclass(item, InputError) for item in family().values() if item is not TomosegError)
    assert InputError.__base__ is TomosegError
    assert TomosegError.__base__ is Exception


def test_each_error_says_what_it_is_for_in_the_words_of_the_tree() -> None:
    for name, item in family().items():
        line = re.search(rf"{name} +(.*)", errors.__doc__ or "")
        if line and name != "InputError":
            assert (item.__doc__ or "").strip(".").lower() == line[1].lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predicted"], "there is no verb 'predicted'; the verbs are demo, phantom,"),
        (["predict", "no.tomoseg", "scan", "-o", "seg"], r"no\.tomoseg"),
        (["train", "no_images", "no_labels", "-o", "m.tomoseg"], "no_images: no such file or folder"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == USERS_INPUT == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(f"tomoseg: .*{message}", lines[0])
    assert list(tmp_path.iterdir()) == []
