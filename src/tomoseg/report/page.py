"""What a report consists of, and its one HTML file, which opens offline."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Literal


@dataclass(frozen=True)
class Picture:
    """A figure: the stem of its file, its PNG, what it shows."""

    name: str
    png: bytes
    caption: str
    kind: Literal["picture"] = "picture"

    @property
    def data(self) -> str:
        """The PNG as text, for a data URI."""
        return b64encode(self.png).decode()

    @property
    def digest(self) -> str:
        """What its file is known by: the SHA-256 of the PNG."""
        return sha256(self.png).hexdigest()


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; the first column names the row. Row `strong` stands out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    strong: int | None = None
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and a value."""

    pairs: Sequence[tuple[str, str]]
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True)
class Note:
    """A remark; `warning` stands out, `leaky` cannot be missed."""

    text: str
    tone: Literal["info", "warning", "leaky"] = "info"
    kind: Literal["note"] = "note"


Part = Picture | Table | Facts | Note


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]
    intro: str = ""


@dataclass(frozen=True)
class Headline:
    """A number that the reader takes home."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    subtitle: str
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    notes: Sequence[Note] = ()

    @property
    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Picture)]


def render(report: Report) -> str:
    """Return the report as one HTML file without any link to the outside; all text is escaped.

    Examples
    --------
    >>> "&lt;b&gt;" in render(Report("<b>", "", [], []))
    True
    """
    from jinja2 import Environment, StrictUndefined

    page = files("tomoseg.report").joinpath("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(page).render(report=report)
