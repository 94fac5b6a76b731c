# SPDX-License-Identifier: MIT
"""``smls-node`` and ``twist smls-node``: the node's command line."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Sequence
from getopt import GetoptError, gnu_getopt
from importlib import import_module
from os.path import abspath
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from smls import program
from smls.errors import BadRecord, MissingExtra, ModelUnusable
from smls.wire import registry_url, split_address
from smls_node import serverfile
from smls_node.formats import GRAPH
from smls_node.options import DEFAULT_PORT, ServedModelOptions, amount, lawful
from smls_node.repository import Source

COMMAND = "smls-node"

DEFAULT_GRPC_PORT = 8500
"""TensorFlow Serving's, as ``DEFAULT_PORT`` is."""

GRPC_MODULES = ("grpc", "google.protobuf")

DECODE = ("scaled", "exact")

VERBS = ("accelerate", "build", "dockerfile", "freeze")
"""What the command does besides serving: the modules of ``smls_node.commands``."""

ACCELERATE = ("off", "auto", "openvino")


log = Logger()


class Options(ServedModelOptions):
    """The node's options. ``self["models"]`` holds a ``ModelSettings`` for each ``--graph``
    and each ``--model``."""

    synopsis = (
        "Usage: smls-node [--models DIR | --model PATH | --graph G.pb --labels L.txt | "
        "DIR-OF-ONE-MODEL] [--registry URL] [options]"
    )

    longdesc = "Serves models on this machine over HTTP."

    examples = """\
With no model it serves a small built-in network that reads handwritten digits:

    smls-node
    curl -F data=@three.jpg http://127.0.0.1:8501/classify

A graph and labels as TensorFlow's label_image takes them; the layers are found in the graph:

    smls-node --graph output_graph.pb --labels output_labels.txt

Several models: each --graph begins a new one, and the options after it are that model's. How
models are run may be said before the first one too, for all that do not say otherwise:

    smls-node --max-batch-size 8 --graph a.pb --labels a.txt \\
              --graph b.pb --labels b.txt --version 2 --operator-threads 1 --runs 4

A model of another format: SavedModel, Keras, ONNX, scikit-learn (skops) or TorchScript:

    smls-node --model iris.skops --model encoder.onnx --name encoder

A class of your own, as 'mlserver start DIR' serves it, DIR/model-settings.json and DIR/*.py:

    smls-node DIR

A folder of models, DIR/MODEL/VERSION/ with a model of any format in it; new versions are served
and old ones dropped while it runs. Options of a model may stand in DIR/MODEL/smls.toml or
DIR/MODEL/model-settings.json:

    smls-node --models DIR

Faster on many CPUs, with OpenVINO (the extra 'openvino'), after a proof on your own images:

    smls-node accelerate output_graph.pb --images photos/
    smls-node --graph output_graph.pb --labels output_labels.txt --accelerate auto

A Keras model or a SavedModel of images becomes a graph:

    smls-node freeze flowers.keras

Four processes of one node, where requests alone keep a core busy, or a model holds Python's lock:

    smls-node --replicas 4 --graph output_graph.pb --labels output_labels.txt

As a container image, with what its models require:

    smls-node build DIR -t TAG

Announced to a registry, which clients ask where the live nodes are:

    smls-node --registry http://registry:12480
"""

    optParameters: list[Any] = [
        [
            "port",
            None,
            None,
            f"Port to listen on, {DEFAULT_PORT} where left out; 0 takes a free one",
            program.whole_number("port", 0, 65535),
        ],
        [
            "grpc-port",
            None,
            None,
            f"Port for gRPC, with the extra 'grpc'; 0 takes a free one. Where neither port is "
            f"named, {DEFAULT_GRPC_PORT}; none where only --port is",
            program.whole_number("grpc-port", 0, 65535),
        ],
        ["node-name", None, None, "Name that answers carry; HOSTNAME:PORT where left out."],
        [
            "replicas",
            None,
            1,
            "Processes that serve the same models, together behind --port",
            program.whole_number("replicas", 1, 1024),
        ],
        [
            "replica-ports",
            None,
            0,
            "First of the ports that each replica has for itself; free ones where left out",
            program.whole_number("replica-ports", 0, 65535),
        ],
        ["default-model", None, None, "Model that serves requests which name none."],
        [
            "advertise",
            None,
            None,
            "HOST[:PORT] to announce; the address that reaches the registry where left out.",
        ],
        ["zone", None, None, "Zone to announce, such as a rack or a data centre."],
        ["findings", None, None, "Folder that keeps what was measured; ~/.cache/smls if left out."],
        [
            "decode",
            None,
            "scaled",
            "Decode JPEGs only as large as is needed (scaled), or as label_image does (exact).",
        ],
        [
            "accelerate",
            None,
            "off",
            "Run models in OpenVINO where that is proven the same: auto, openvino or off.",
        ],
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
        super().__init__()
        self["arguments"] = []
        self["registries"] = []
        self["sources"] = []
        self["origins"] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        # What replicas are started with.
        self["arguments"] = list(sys.argv[1:] if options is None else options)
        super().parseOptions([*self._told_by_files(self["arguments"]), *self["arguments"]])

    def _told_by_files(self, arguments: Sequence[str]) -> list[str]:
        """What each ``settings.json`` in a folder that is to be served says as options, that of
        the first folder last."""
        try:
            named, paths = gnu_getopt([*arguments], self.shortOpt, [*self.longOpt])
        except GetoptError:
            return []  # That is told when they are parsed.
        folders = [*(value for name, value in named if name == "--models"), *paths]
        found: list[str] = []
        for folder in reversed(folders):
            path = Path(folder, serverfile.NAMED)
            try:
                if path.is_file():
                    found += serverfile.options(path.read_text("utf-8"), path)
            except (ModelUnusable, OSError, UnicodeError) as error:
                raise usage.UsageError(str(error)) from error
        return found

    def opt_models(self, path: str) -> None:
        """Folder of models to serve, as MODEL/VERSION/* in it; repeatable."""
        self["sources"].append(Source(Path(abspath(path))))

    def parseArgs(self, *paths: str) -> None:
        self["sources"] += [Source(Path(abspath(path)), is_model=True) for path in paths]

    def opt_cors(self, origin: str) -> None:
        """Origin of web pages that may read answers, as https://HOST, or * for all; repeatable."""
        if not re.fullmatch(r"\*|https?://[^\s/,]+", origin):
            raise usage.UsageError(f"--cors: got {origin!r}, wanted http[s]://HOST[:PORT] or *")
        self["origins"].append(origin)

    def opt_registry(self, url: str) -> None:
        """Registry to announce to, as http://HOST:PORT or HOST:PORT; repeatable."""
        try:
            self["registries"].append(registry_url(url))
        except BadRecord as error:
            raise usage.UsageError(f"--registry: {error.message}") from error

    def postOptions(self) -> None:
        super().postOptions()
        for option in ("max-upload", "max-pixels"):
            self[option] = amount(option, self[option])
        for option, known in (("accelerate", ACCELERATE), ("decode", DECODE)):
            if self[option] not in known:
                raise usage.UsageError(
                    f"--{option}: got {self[option]!r}, wanted one of {', '.join(known)}"
                )
        self["is-grpc-default"] = self["port"] is None and self["grpc-port"] is None
        if self["is-grpc-default"]:
            self["grpc-port"] = DEFAULT_GRPC_PORT
        if self["port"] is None:
            self["port"] = DEFAULT_PORT
        if self["findings"] is not None:
            self["findings"] = Path(self["findings"])
        if self["advertise"] is not None:
            _check_advertise(self["advertise"])
        if self["replicas"] > 1:
            self._check_replicas()
        if self["default-model"] is not None:
            lawful("--default-model", self["default-model"])
        for model in self["models"]:
            if model.labels is None and model.format == GRAPH.name:
                raise usage.UsageError(f"--graph {model.path}: --labels is missing")
        paths = [source.path for source in self["sources"]]
        for path in paths:
            if paths.count(path) > 1:
                raise usage.UsageError(f"{path} is named twice")

    def _check_replicas(self) -> None:
        if self["advertise"] and re.search(r":[0-9]+$", self["advertise"]):
            raise usage.UsageError(
                f"--advertise: got {self['advertise']!r}, but each replica has a port of its own; "
                "give HOST alone"
            )
        first, last = self["replica-ports"], self["replica-ports"] + self["replicas"] - 1
        if first and (last > 65535 or first <= self["port"] <= last):
            raise usage.UsageError(
                f"--replica-ports: got {first}, which makes {first}-{last} for "
                f"{self['replicas']} replicas; wanted ports up to 65535 without --port's "
                f"{self['port']}"
            )


def make_service(options: Options) -> IService:
    """The node as a service, on the reactor that is installed."""
    needed = ["klein", "multipart", "numpy", "PIL", "prometheus_client", "simplejpeg"]
    if options["accelerate"] == "off":
        needed.append("tensorflow")
    program.require_extra(COMMAND, "node", needed)
    check_grpc(options)
    if options["replicas"] > 1:
        from smls_node import supervisor

        return supervisor.make_service(options)
    # What is imported and loaded stays: looking for garbage in it takes a sixth of the start. When
    # all is loaded, ``service`` collects once, and from then on as usual.
    gc.disable()
    from smls_node import service

    return service.make_service(options)


makeService = program.under_twist(COMMAND, make_service)


def check_grpc(options: Options) -> None:
    """Checks that gRPC can be spoken; where nobody asked for it, it is left out instead.

    :raises MissingExtra: where ``--grpc-port`` asks for it.
    """
    if options["grpc-port"] is None:
        return
    try:
        program.require_extra("--grpc-port", "grpc", GRPC_MODULES)
    except MissingExtra as error:
        if not options["is-grpc-default"]:
            raise
        options["grpc-port"] = None
        log.info("no gRPC: {why}", why=error.message)


def main() -> None:
    """Runs ``smls-node``, or one of its verbs."""
    if sys.argv[1:2] and sys.argv[1] in VERBS:
        import_module(f"smls_node.commands.{sys.argv[1]}").main(sys.argv[2:])
    else:
        program.main(COMMAND, Options(), make_service)


def _check_advertise(text: str) -> None:
    try:
        split_address(text if re.search(r":[0-9]+$", text) else f"{text}:1")
    except BadRecord as error:
        raise usage.UsageError(f"--advertise: got {text!r}, wanted HOST[:PORT]") from error
