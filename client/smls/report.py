# SPDX-License-Identifier: MIT
"""How ``smls-client`` shows what it found: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from typing import Any, Protocol
from unicodedata import east_asian_width

import click
from attrs import asdict

from smls.results import Classification


class Report(Protocol):
    """Takes classifications in order."""

    def add(self, image: str, found: Classification) -> None: ...

    def finish(self) -> None: ...


class TableReport:
    """A table, shown when all its rows are known."""

    def __init__(self) -> None:
        self._rows: list[list[str]] = []

    def add(self, image: str, found: Classification) -> None:
        first = [click.format_filename(image), found.node, found.address]
        for prediction in found.predictions:
            name, node, address = first
            self._rows.append([name, prediction.label, f"{prediction.score:.4f}", node, address])
            first = ["", "", ""]

    def finish(self) -> None:
        if self._rows:
            show_table(["IMAGE", "LABEL", "SCORE", "NODE", "ADDRESS"], self._rows)


class JsonReport:
    """One JSON object a line, as soon as it is known."""

    def add(self, image: str, found: Classification) -> None:
        show_json({"image": image, **asdict(found)})

    def finish(self) -> None:
        pass


class CsvReport:
    """One row a label, as soon as it is known, under a header."""

    def __init__(self) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._row(["image", "label", "score", "model", "version", "node", "address"])

    def add(self, image: str, found: Classification) -> None:
        about = [found.model, found.version, found.node, found.address]
        for prediction in found.predictions:
            name = click.format_filename(image)
            self._row([name, prediction.label, prediction.score, *about])

    def finish(self) -> None:
        pass

    def _row(self, values: Sequence[object]) -> None:
        self._writer.writerow(values)
        sys.stdout.flush()


def show_json(value: dict[str, Any]) -> None:
    """Prints ``value`` as one line of JSON."""
    click.echo(json.dumps(value))


def show_vector(text: str, vector: Sequence[float], *, as_json: bool) -> None:
    """Prints the numbers of a text's vector in one line; what is none is ``null`` in JSON."""
    if as_json:
        numbers = [number if isfinite(number) else None for number in vector]
        show_json({"text": text, "vector": numbers})
    else:
        click.echo(" ".join(map(str, vector)))


def show_prediction(row: dict[str, Any], prediction: Any, *, as_json: bool) -> None:
    """Prints a row's prediction in one line, a text as it is."""
    if as_json:
        show_json({"row": row, "prediction": prediction})
    else:
        click.echo(prediction if isinstance(prediction, str) else json.dumps(prediction))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints the columns side by side, each as wide as its widest value."""
    widths = [max(map(_width, column)) for column in zip(header, *rows, strict=True)]
    click.secho(_line(header, widths), bold=True)
    for row in rows:
        click.echo(_line(row, widths))


def _line(values: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        value + " " * (width - _width(value)) for value, width in zip(values, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


class Progress(Protocol):
    """What is going on, told on standard error."""

    def advance(self) -> None: ...

    def complain(self, message: str) -> None: ...


class Quiet:
    """Tells faults alone."""

    def advance(self) -> None:
        pass

    def complain(self, message: str) -> None:
        click.echo(message, err=True)


class Bar:
    """A progress bar; faults stand above it."""

    def __init__(self, progress: Any, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("classifying", total=total)

    def advance(self) -> None:
        self._progress.advance(self._task)

    def complain(self, message: str) -> None:
        self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)


def progress(total: int | None, *, table: bool) -> AbstractContextManager[Progress]:
    """A bar where standard error is a terminal, there is more than one image, and nothing else
    is written to the terminal meanwhile; ``total`` is ``None`` where it is not known."""
    wanted = total != 1 and sys.stderr.isatty() and (table or not sys.stdout.isatty())
    return _Shown(total) if wanted else nullcontext(Quiet())


class _Shown(AbstractContextManager["Bar"]):
    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._total = total
        self._progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            # Results on a pipe are not the terminal's.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Bar:
        self._progress.start()
        return Bar(self._progress, self._total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
