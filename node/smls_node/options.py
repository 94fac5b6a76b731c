# SPDX-License-Identifier: MIT
"""The options that describe models, for the node and for its verbs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.python import usage

from smls import program
from smls.errors import BadRecord, ModelUnusable
from smls.wire import check_name
from smls_node.formats import FORMATS, GRAPH
from smls_node.hub import place_of
from smls_node.layout import LAYOUTS
from smls_node.settings import (
    SCORES,
    Channels,
    ModelSettings,
    channels,
    deviations,
    device_name,
)

DEFAULT_PORT = 8501

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


class ModelOptions(program.ServerOptions):
    """Options of which each ``--graph`` or ``--model`` begins a model, and those after it are that
    model's.

    ``self["models"]`` holds a ``ModelSettings`` for each.
    """

    def __init__(self) -> None:
        super().__init__()
        self["models"] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        arguments = list(sys.argv[1:] if options is None else options)
        super().parseOptions(_model_version(arguments))

    def opt_graph(self, path: str) -> None:
        """Frozen graph (.pb) to serve; begins a new model."""
        self._begin(path, GRAPH.name)

    def opt_model(self, path: str) -> None:
        """Model to serve, a file or a folder of any format; begins a new model."""
        self._begin(path)

    def opt_format(self, name: str) -> None:
        """The model's format, where it is not to be told from its files."""
        if name not in FORMATS:
            raise usage.UsageError(f"--format: got {name!r}, wanted one of {', '.join(FORMATS)}")
        self._set("format", format=name)

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
        """Subtracted from each pixel value of 0-255; three for three channels, as
        123.675,116.28,103.53. [default: 0]"""
        self._set("input-mean", mean=_channels("input-mean", value, channels))

    def opt_input_std(self, value: str) -> None:
        """Divides what the mean left; three as 58.395,57.12,57.375. [default: 255]"""
        self._set("input-std", std=_channels("input-std", value, deviations))

    def opt_input_height(self, value: str) -> None:
        """Height of the input, for a graph that leaves it open."""
        self._set("input-height", height=program.whole_number("input-height", 1, 10_000)(value))

    def opt_input_width(self, value: str) -> None:
        """Width of the input, for a graph that leaves it open."""
        self._set("input-width", width=program.whole_number("input-width", 1, 10_000)(value))

    def opt_input_layout(self, name: str) -> None:
        """NHWC or NCHW (channels first); told by the input's shape where left out."""
        self._set("input-layout", layout=_one_of("input-layout", name, LAYOUTS))

    def opt_scores(self, name: str) -> None:
        """softmax for a model of images that gives logits. [default: as-is]"""
        self._set("scores", scores=_one_of("scores", name, SCORES))

    def _begin(self, path: str, format: str = "") -> None:
        self["models"].append(ModelSettings(_place_of(path), format=format))

    def _set(self, option: str, **change: Any) -> None:
        if not self["models"]:
            raise usage.UsageError(f"--{option} belongs to a model; give its --graph before it")
        self["models"][-1] = evolve(self["models"][-1], **change)


class ServedModelOptions(ModelOptions):
    """Options of how models are run, besides. Before the first ``--graph`` they hold for all
    models that do not say otherwise; ``self["default"]`` holds what was said there.
    """

    def __init__(self) -> None:
        super().__init__()
        self["default"] = ModelSettings(Path())

    def _begin(self, path: str, format: str = "") -> None:
        self["models"].append(evolve(self["default"], path=_place_of(path), format=format))

    def opt_device(self, name: str) -> None:
        """Where a model runs: cpu or cuda:N; the library's own choice where left out."""
        self._place(name=_read(device_name, name))

    def opt_gpu_memory_fraction(self, value: str) -> None:
        """The most of a GPU's memory that is taken, as 0.5 (TensorFlow, PyTorch)."""
        fraction = _number("gpu-memory-fraction", value)
        if not 0 < fraction <= 1:
            raise usage.UsageError(
                f"--gpu-memory-fraction: got {value!r}, wanted a number above 0, 1 at most"
            )
        self._place(memory_fraction=fraction)

    def opt_gpu_memory_bytes(self, value: str) -> None:
        """The most of a GPU's memory that is taken (k, M and G may follow; ONNX)."""
        self._place(memory_bytes=amount("gpu-memory-bytes", value))

    def opt_gpu_memory_growth(self, value: str) -> None:
        """Take a GPU's memory as it is needed (on), or all of it at once (off). [default: on]"""
        if value not in ("on", "off"):
            raise usage.UsageError(f"--gpu-memory-growth: got {value!r}, wanted on or off")
        self._place(memory_growth=value == "on")

    def opt_operator_threads(self, value: str) -> None:
        """Threads that one operator is spread over; with --runs, instead of measuring."""
        read = program.whole_number("operator-threads", 0, 1024)
        self._run(operator_threads=_read(read, value))

    def opt_runs(self, value: str) -> None:
        """Runs of a model at once; with --operator-threads, instead of measuring."""
        self._run(runs=_read(program.whole_number("runs", 1, 1024), value))

    def opt_max_batch_size(self, value: str) -> None:
        """Images that a batch may hold; as many as pay off where left out."""
        read = program.whole_number("max-batch-size", 1, 100_000)
        self._limit(max_batch_size=_read(read, value))

    def opt_max_queue_delay(self, value: str) -> None:
        """Seconds that a batch which is not full waits for more images. [default: 0]"""
        self._limit(max_queue_delay=_read(program.seconds("max-queue-delay", or_none=True), value))

    def opt_allowed_batch_sizes(self, value: str) -> None:
        """Sizes that batches are padded to, such as 1,4,16."""
        self._limit(allowed_batch_sizes=_sizes(value))

    def opt_max_queue_size(self, value: str) -> None:
        """Images that may wait for a model. [default: 4096]"""
        read = program.whole_number("max-queue-size", 1, 10**7)
        self._limit(max_queue_size=_read(read, value))

    def opt_max_queue_bytes(self, value: str) -> None:
        """Bytes of images that may wait for a model (k, M and G may follow). [default: 1G]"""
        self._limit(max_queue_bytes=amount("max-queue-bytes", value))

    def postOptions(self) -> None:
        super().postOptions()
        for model in (self["default"], *self["models"]):
            if (model.operator_threads is None) != (model.runs is None):
                raise usage.UsageError("--operator-threads and --runs go together; give both")

    def _run(self, **change: Any) -> None:
        models = self["models"]
        if models:
            models[-1] = evolve(models[-1], **change)
        else:
            self["default"] = evolve(self["default"], **change)

    def _place(self, **change: Any) -> None:
        model = (self["models"] or [self["default"]])[-1]
        self._run(device=evolve(model.device, **change))

    def _limit(self, **change: Any) -> None:
        model = (self["models"] or [self["default"]])[-1]
        self._run(limits=evolve(model.limits, **change))


def amount(option: str, text: str) -> int:
    """The number that ``text`` is, such as 500k or 20M.

    :raises UsageError: naming the option, where it is none.
    """
    match = re.fullmatch(r"([0-9]{1,15})([kMG]?)", text)
    number = int(match[1]) * _UNITS[match[2]] if match else 0
    if number == 0:
        raise usage.UsageError(f"--{option}: got {text!r}, wanted a number such as 500k or 20M")
    return number


def _place_of(path: str) -> Path:
    try:
        return place_of(path)
    except ModelUnusable as error:
        raise usage.UsageError(f"--model {error.message}") from error


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


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted(int(each) for each in text.split(",")))
    except ValueError:
        sizes = (0,)
    if sizes[0] < 1:
        raise usage.UsageError(
            f"--allowed-batch-sizes: got {text!r}, wanted whole numbers such as 1,4,16"
        )
    return sizes


def _read(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise usage.UsageError(str(error)) from error


def _one_of(option: str, name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise usage.UsageError(f"--{option}: got {name!r}, wanted {' or '.join(names)}")
    return name


def _channels(option: str, text: str, read: Callable[[Sequence[float]], Channels]) -> Channels:
    """Numbers between commas."""
    numbers = [_number(option, each) for each in text.split(",")]
    try:
        return read(numbers)
    except ValueError as error:
        raise usage.UsageError(f"--{option}: {error}") from error


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise usage.UsageError(f"--{option}: got {text!r}, wanted a number") from error
