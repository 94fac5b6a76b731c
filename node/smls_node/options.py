# SPDX-License-Identifier: MIT
"""The options that describe models, for the node and for its verbs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.python import usage

from smls import program
from smls.errors import BadRecord
from smls.wire import check_name
from smls_node.settings import ModelSettings


class ModelOptions(program.ServerOptions):
    """Options of which each ``--graph`` begins a model, and those after it are that model's.

    ``self["models"]`` holds a ``ModelSettings`` for each.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["models"] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        arguments = list(sys.argv[1:] if options is None else options)
        super().parseOptions(_model_version(arguments))

    def opt_graph(self, path: str) -> None:
        """Frozen graph (.pb) to serve; begins a new model."""
        self["models"].append(ModelSettings(Path(path)))

    def opt_labels(self, path: str) -> None:
        """The model's labels, one a line."""
        self._set("labels", labels=Path(path))

    def opt_name(self, name: str) -> None:
        """The model's name; the graph's file name where left out."""
        self._set("name", name=lawful("--name", name))

    def opt_model_version(self, number: str) -> None:
        """The model's version, a number; --version N is the same. [default: 1]"""
        self._set("version", version=str(program.whole_number("version", 0, 2**63)(number)))

    def opt_input_layer(self, name: str) -> None:
        """Layer to feed; found in the graph where left out."""
        self._set("input-layer", input_layer=name)

    def opt_output_layer(self, name: str) -> None:
        """Layer of the scores; found in the graph where left out."""
        self._set("output-layer", output_layer=name)

    def opt_input_mean(self, value: str) -> None:
        """Subtracted from each pixel value of 0-255. [default: 0]"""
        self._set("input-mean", mean=_number("input-mean", value))

    def opt_input_std(self, value: str) -> None:
        """Divides what the mean left. [default: 255]"""
        std = _number("input-std", value)
        if std == 0:
            raise usage.UsageError("--input-std: got 0, wanted any other number")
        self._set("input-std", std=std)

    def opt_input_height(self, value: str) -> None:
        """Height of the input, for a graph that leaves it open."""
        self._set("input-height", height=program.whole_number("input-height", 1, 10_000)(value))

    def opt_input_width(self, value: str) -> None:
        """Width of the input, for a graph that leaves it open."""
        self._set("input-width", width=program.whole_number("input-width", 1, 10_000)(value))

    def _set(self, option: str, **change: Any) -> None:
        if not self["models"]:
            raise usage.UsageError(f"--{option} belongs to a model; give its --graph before it")
        self["models"][-1] = evolve(self["models"][-1], **change)


def _model_version(arguments: list[str]) -> list[str]:
    """``--version N`` is the model's, a bare ``--version`` the program's."""
    spelt = list(arguments)
    for index, argument in enumerate(arguments):
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        is_bare = argument == "--version" and following.isdigit()
        if is_bare or argument.startswith("--version="):
            spelt[index] = argument.replace("--version", "--model-version", 1)
    return spelt


def lawful(option: str, name: str) -> str:
    """``name`` where it may be a model's.

    :raises UsageError: naming the option, where it may not.
    """
    try:
        return check_name(option, name)
    except BadRecord as error:
        raise usage.UsageError(error.message) from error


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise usage.UsageError(f"--{option}: got {text!r}, wanted a number") from error
