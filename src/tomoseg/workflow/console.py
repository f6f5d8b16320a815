"""What people see while a verb runs: progress bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar, runtime_checkable

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")

_PLAIN_EVERY_SECONDS = 10.0


@runtime_checkable
class Bar(Protocol):
    """Progress of one piece of work."""

    def update(self, done: float, note: str = "") -> None:
        """Say how much is done, in the units of the bar's total, and what else is worth knowing."""
        ...


class _Silent:
    def update(self, done: float, note: str = "") -> None:
        """Draw nothing."""


class _Plain:
    """Writes a line when it starts, at most every ten seconds, and at the end."""

    def __init__(self, title: str, total: float, write: Callable[[str], None]) -> None:
        self._title, self._total, self._write = title, total, write
        self._began = self._last = time.monotonic()
        self._done, self._note, self._said = 0.0, "", False

    def update(self, done: float, note: str = "") -> None:
        self._done, self._note = done, note
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY_SECONDS:
            self._last, self._said = now, True
            share = min(1.0, done / self._total)
            left = (now - self._began) * (1 - share) / share if share else None
            rest = f", {duration(left)} left" if left is not None else ""
            self._write(f"{self._title}: {100 * share:.0f} %{rest}{note and ', ' + note}")

    def finish(self) -> None:
        took = time.monotonic() - self._began
        if took >= 2 or self._said:
            self._write(f"{self._title}: done in {duration(took)}{self._note and ', ' + self._note}")


class _Rich:
    def __init__(self, progress: Progress, title: str, total: float) -> None:
        self._progress, self._task = progress, progress.add_task(title, total=total, note="")

    def update(self, done: float, note: str = "") -> None:
        self._progress.update(self._task, completed=done, note=note)


class Console:
    """Where a verb talks to: progress and remarks go to stderr, results to stdout.

    Parameters
    ----------
    quiet
        Only warnings and results.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._rich = RichConsole(stderr=True, highlight=False)

    def result(self, text: str) -> None:
        """Print a result."""
        print(text, flush=True)

    def say(self, text: str) -> None:
        """Print a remark."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, title: str, total: float) -> Iterator[Bar]:
        """Show the progress of one piece of work."""
        if self._quiet:
            yield _Silent()
        elif self._rich.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.percentage:3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            with Progress(*columns, console=self._rich) as progress:
                yield _Rich(progress, title, total)
        else:
            bar = _Plain(title, total, self.say)
            yield bar
            bar.finish()

    def track(self, items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
        """Yield `items`, showing how many of `total` are done."""
        with self.progress(title, total) as bar:
            for done, item in enumerate(items):
                bar.update(done)
                yield item
            bar.update(total)


def duration(seconds: float) -> str:
    """Return a time in words: seconds up to a minute and a half, then minutes, then hours.

    Examples
    --------
    >>> duration(42), duration(150), duration(7200)
    ('42 s', '2.5 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sized(count: float) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> sized(52_000), sized(99_600_000), sized(2_147_483_648)
    ('52 kB', '100 MB', '2.1 GB')
    """
    factor, unit = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if count >= pair[0]), (1e3, "kB"))
    number = count / factor
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"


def counted(count: int, noun: str) -> str:
    """Return a number and a noun that takes an s.

    Examples
    --------
    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"
