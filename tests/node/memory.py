# SPDX-License-Identifier: MIT
"""HTTP with both ends in memory, and a model that needs no library."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from attrs import field, frozen
from PIL import Image
from twisted.internet.task import Clock

from smls.tensors import Tensors, TensorSpec
from smls_node.arrangement import Arrangement
from smls_node.batcher import Batcher
from smls_node.batchtime import BatchTime
from smls_node.catalogue import Catalogue, Model
from smls_node.counts import Traffic
from smls_node.executing import Plan
from smls_node.faces.app import make_site
from smls_node.faces.terms import Terms
from smls_node.runtimes import Runtime
from smls_node.serving import Phase, Serving
from smls_node.settings import Limits
from smls_node.signature import DEFAULT, Signature
from smls_node.tables import table_task
from smls_node.tasks import image_task
from smls_node.texts import text_task
from smls_node.workerthreads import WorkerThreads
from smls_node.works import Classifier, Decoding
from tests.memory import Connection, Reply, parse, request
from tests.node.turns import AtOnce


class Brightness:
    """A model of two classes, dark and bright, whose scores are the picture's mean."""

    process = problem = ""

    def __init__(self) -> None:
        signature = Signature(
            (TensorSpec("image", "FP32", (-1, 8, 8, 3)),), (TensorSpec("scores", "FP32", (-1, 2)),)
        )
        self.signatures = {DEFAULT: signature}
        self.example = signature.zeros()
        self.batches: list[int] = []

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        self.batches.append(len(inputs["image"]))
        means = inputs["image"].mean(axis=(1, 2, 3), dtype=np.float32)
        return {"scores": np.stack([1 - means, means], axis=1)}

    def unload(self) -> None: ...


class HalfPlusTwo:
    """TensorFlow Serving's half_plus_two: y = x / 2 + 2, with its signatures; one besides it
    has several inputs and outputs of several types."""

    process = problem = ""

    def __init__(self) -> None:
        x, y = TensorSpec("x", "FP32", (-1, 1)), TensorSpec("y", "FP32", (-1, 1))
        inputs = (TensorSpec("inputs", "FP32", (-1, 1)),)
        many = Signature(
            (TensorSpec("tag", "BYTES", (-1,)), TensorSpec("signal", "INT32", (-1, 2))),
            (
                TensorSpec("tag_bytes", "BYTES", (-1,)),
                TensorSpec("tag", "BYTES", (-1,)),
                TensorSpec("sum", "INT32", (-1,)),
                TensorSpec("half", "FP64", (-1, 2)),
            ),
        )
        self.signatures = {
            DEFAULT: Signature((x,), (y,)),
            "regress_x_to_y": Signature(
                inputs, (TensorSpec("outputs", "FP32", (-1, 1)),), method="regress"
            ),
            "classify_x_to_y": Signature(
                inputs, (TensorSpec("scores", "FP32", (-1, 1)),), method="classify"
            ),
            "many": many,
            "one": Signature(
                (TensorSpec("text", "BYTES", ()),), (TensorSpec("size", "INT64", ()),), False
            ),
        }
        self.example = self.signatures[DEFAULT].zeros()
        self.batches: list[int] = []

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        self.batches.append(len(next(iter(inputs.values())).reshape(-1)))
        if signature == "one":
            return {"size": np.array(len(inputs["text"][()]), np.int64)}
        if signature == "many":
            tag, signal = inputs["tag"], inputs["signal"]
            return {
                "tag_bytes": tag,
                "tag": tag,
                "sum": signal.sum(axis=1, dtype=np.int32),
                "half": signal / 2.0,
            }
        (given,) = inputs.values()
        (target,) = self.signatures[signature].outputs
        return {target.name: given / 2 + 2}

    def unload(self) -> None: ...


class Broken(Brightness):
    """A model that raises on every image."""

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        raise RuntimeError("a fault in the model")


@frozen
class Named:
    """A model to be, before there is a node whose clock its workers read."""

    name: str
    version: str = "1"
    runtime: Runtime = field(factory=Brightness)
    platform: str = ""

    def on(
        self,
        clock: Any,
        workers: int,
        limits: Limits,
        time: BatchTime,
        reactor: Any = None,
        max_pixels: int = 1_000_000,
    ) -> Model:
        batcher = Batcher(limits, time, workers)
        signatures = self.runtime.signatures
        task = image_task(signatures)
        labels = ("dark", "bright") if task else ()
        classifier = Classifier(task, labels, Decoding(max_pixels)) if task else None
        execute = Plan(limits, workers, classifier).executor(self.runtime, clock.seconds)
        threads = WorkerThreads(batcher, execute, clock.seconds, reactor or AtOnce())
        return Model(
            self.name,
            self.version,
            self.runtime,
            Arrangement(1, workers, workers, why="for a test"),
            threads,
            task or text_task(signatures) or table_task(signatures),
            labels,
            self.platform,
            give_back=self.runtime.unload,
        )


def model(
    name: str, version: str = "1", runtime: Runtime | None = None, platform: str = ""
) -> Named:
    return Named(name, version, runtime or Brightness(), platform)


def image(brightness: int = 255, kind: str = "PNG", size: int = 8) -> bytes:
    file = BytesIO()
    Image.new("RGB", (size, size), (brightness,) * 3).save(file, kind)
    return file.getvalue()


class NodeConnection(Connection):
    """One client's connection to a node."""

    def reply(self) -> Reply:
        """The answer that came since the last one."""
        raw = self.transport.value()
        self.transport.clear()
        return parse(raw)


class MemoryNode:
    """A node's site with workers that are stepped by hand and a clock, ready to be asked."""

    def __init__(
        self,
        *models: Named,
        default: str | None = None,
        workers: int = 1,
        queue: Limits | None = None,
        time: BatchTime | None = None,
        max_pixels: int = 1_000_000,
        max_upload: int = 100_000,
        origins: tuple[str, ...] = (),
        calls: Traffic | None = None,
    ) -> None:
        self.clock = Clock()
        catalogue = Catalogue(default)
        for each in models or (model("light"),):
            taken = each.on(
                self.clock, workers, queue or Limits(), time or BatchTime(), max_pixels=max_pixels
            )
            catalogue.add(taken)
        self.serving = Serving(catalogue, self.clock.seconds)
        self.serving.node = "node-1"
        self.serving.phase = Phase.READY
        self.site = make_site(
            self.serving,
            self.clock,
            Terms(30.0),
            version="1.2.3",
            max_upload=max_upload,
            origins=origins,
            calls=calls,
        )

    @property
    def workers(self) -> WorkerThreads:
        """Those of the only, or first, model."""
        return stepped(self.serving.catalogue.models[0])

    def work(self) -> None:
        """Lets the models' workers do all that waits."""
        while any(stepped(each).step() for each in self.serving.catalogue.models):
            pass

    def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", **headers: str
    ) -> Reply:
        connection = NodeConnection(self.site)
        if content_type:
            headers["Content_Type"] = content_type
        connection.send(request(method, path, body, **headers))
        self.work()
        return connection.reply()

    def post(self, path: str, *images: bytes, **fields: str) -> Reply:
        content_type, body = form(*images, **fields)
        return self.request("POST", path, body, content_type)


def stepped(model: Model) -> WorkerThreads:
    """The model's workers, to be stepped by hand."""
    assert isinstance(model.workers, WorkerThreads)
    return model.workers


def form(*images: bytes, field: str = "data", **fields: str) -> tuple[str, bytes]:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (name.encode(), value.encode())
        for name, value in fields.items()
    ]
    parts += [
        b'--x\r\nContent-Disposition: form-data; name="%b"; filename="i"\r\n\r\n%b\r\n'
        % (field.encode(), each)
        for each in images
    ]
    return "multipart/form-data; boundary=x", b"".join([*parts, b"--x--\r\n"])
