# SPDX-License-Identifier: MIT
"""``smls-node`` and ``twist smls-node``: the node's command line."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.application.service import IService
from twisted.python import usage

from smls import program
from smls.errors import BadRecord
from smls.wire import check_name, registry_url, split_address
from smls_node.batcher import Limits
from smls_node.settings import ModelSettings

DEFAULT_PORT = 8501

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


class Options(program.ServerOptions):
    """The node's options. ``self["models"]`` holds a ``ModelSettings`` for each ``--graph``."""

    synopsis = "Usage: smls-node [--graph G.pb --labels L.txt] [--registry URL] [options]"

    longdesc = "Serves image models on this machine over HTTP."

    examples = """\
With no --graph it serves a small built-in network that reads handwritten digits:

    smls-node
    curl -F data=@three.jpg http://127.0.0.1:8501/classify

A graph and labels as TensorFlow's label_image takes them; the layers are found in the graph:

    smls-node --graph output_graph.pb --labels output_labels.txt

Several models: each --graph begins a new one, and the options after it are that model's:

    smls-node --graph a.pb --labels a.txt --graph b.pb --labels b.txt --version 2

Announced to a registry, which clients ask where the live nodes are:

    smls-node --registry http://registry:12480
"""

    optParameters: list[Any] = [
        [
            "port",
            None,
            DEFAULT_PORT,
            "Port to listen on; 0 takes a free one",
            program.whole_number("port", 0, 65535),
        ],
        ["node-name", None, None, "Name that answers carry; HOSTNAME:PORT where left out."],
        ["default-model", None, None, "Model that serves requests which name none."],
        [
            "advertise",
            None,
            None,
            "HOST[:PORT] to announce; the address that reaches the registry where left out.",
        ],
        ["zone", None, None, "Zone to announce, such as a rack or a data centre."],
        [
            "operator-threads",
            None,
            None,
            "Threads that one operator is spread over; with --runs, instead of measuring",
            program.whole_number("operator-threads", 0, 1024),
        ],
        [
            "runs",
            None,
            None,
            "Runs of a model at once; with --operator-threads, instead of measuring",
            program.whole_number("runs", 1, 1024),
        ],
        ["findings", None, None, "Folder that keeps what was measured; ~/.cache/smls if left out."],
        [
            "max-batch-size",
            None,
            None,
            "Images that a batch may hold; as many as pay off where left out",
            program.whole_number("max-batch-size", 1, 100_000),
        ],
        [
            "max-queue-delay",
            None,
            0.0,
            "Seconds that a batch which is not full waits for more images.",
            program.seconds("max-queue-delay"),
        ],
        ["allowed-batch-sizes", None, None, "Sizes that batches are padded to, such as 1,4,16."],
        [
            "max-queue-size",
            None,
            4096,
            "Images that may wait",
            program.whole_number("max-queue-size", 1, 10**7),
        ],
        ["max-queue-bytes", None, "1G", "Bytes of images that may wait (k, M and G may follow)."],
        [
            "request-timeout",
            None,
            30.0,
            "Deadline of a request without X-Request-Timeout-Ms, in seconds",
            program.seconds("request-timeout"),
        ],
        ["max-upload", None, "20M", "Bytes that an upload may have (k, M and G may follow)."],
        ["max-pixels", None, "50M", "Pixels that an image may have (k, M and G may follow)."],
        [
            "drain-timeout",
            None,
            30.0,
            "Seconds that requests in flight have to end after SIGTERM",
            program.seconds("drain-timeout"),
        ],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["models"] = []
        self["registries"] = []

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
        self._set("name", name=_lawful("--name", name))

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

    def opt_registry(self, url: str) -> None:
        """Registry to announce to, as http://HOST:PORT or HOST:PORT; repeatable."""
        try:
            self["registries"].append(registry_url(url))
        except BadRecord as error:
            raise usage.UsageError(f"--registry: {error.message}") from error

    def postOptions(self) -> None:
        super().postOptions()
        for option in ("max-upload", "max-pixels", "max-queue-bytes"):
            self[option] = _amount(option, self[option])
        if (self["operator-threads"] is None) != (self["runs"] is None):
            raise usage.UsageError("--operator-threads and --runs go together; give both")
        self.limits()
        if self["findings"] is not None:
            self["findings"] = Path(self["findings"])
        if self["advertise"] is not None:
            _check_advertise(self["advertise"])
        if self["default-model"] is not None:
            _lawful("--default-model", self["default-model"])
        for model in self["models"]:
            if model.labels is None:
                raise usage.UsageError(f"--graph {model.graph}: --labels is missing")

    def limits(self) -> Limits:
        """What the operator said of batches and their queue."""
        return Limits(
            self["max-batch-size"],
            self["max-queue-delay"],
            _sizes(self["allowed-batch-sizes"]),
            self["max-queue-size"],
            self["max-queue-bytes"],
        )

    def _set(self, option: str, **change: Any) -> None:
        if not self["models"]:
            raise usage.UsageError(f"--{option} belongs to a model; give its --graph before it")
        self["models"][-1] = evolve(self["models"][-1], **change)


def makeService(options: Options) -> IService:
    """The node as a service, on the reactor that is installed."""
    program.require_extra("smls-node", "node", ("klein", "multipart", "numpy", "PIL", "tensorflow"))
    from smls_node.service import make_service

    return make_service(options)


def main() -> None:
    """Runs ``smls-node``."""
    program.main("smls-node", Options(), makeService)


def _model_version(arguments: list[str]) -> list[str]:
    """``--version N`` is the model's, a bare ``--version`` the program's."""
    spelt = list(arguments)
    for index, argument in enumerate(arguments):
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        is_bare = argument == "--version" and following.isdigit()
        if is_bare or argument.startswith("--version="):
            spelt[index] = argument.replace("--version", "--model-version", 1)
    return spelt


def _lawful(option: str, name: str) -> str:
    try:
        return check_name(option, name)
    except BadRecord as error:
        raise usage.UsageError(error.message) from error


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise usage.UsageError(f"--{option}: got {text!r}, wanted a number") from error


def _amount(option: str, text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15})([kMG]?)", text)
    amount = int(match[1]) * _UNITS[match[2]] if match else 0
    if amount == 0:
        raise usage.UsageError(f"--{option}: got {text!r}, wanted a number such as 500k or 20M")
    return amount


def _sizes(text: str | None) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted(int(each) for each in (text or "").split(",") if each or text))
    except ValueError:
        sizes = (0,)
    if sizes and sizes[0] < 1:
        raise usage.UsageError(
            f"--allowed-batch-sizes: got {text!r}, wanted whole numbers such as 1,4,16"
        )
    return sizes


def _check_advertise(text: str) -> None:
    try:
        split_address(text if re.search(r":[0-9]+$", text) else f"{text}:1")
    except BadRecord as error:
        raise usage.UsageError(f"--advertise: got {text!r}, wanted HOST[:PORT]") from error
