# SPDX-License-Identifier: MIT
"""A node over gRPC whose workers, clock and reactor are stepped by hand; and plain stubs."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from google.protobuf.message_factory import GetMessageClass

from smls.tensors import Tensors, TensorSpec
from smls_node.faces.grpc.messages import message, service
from smls_node.faces.grpc.server import GrpcServer, GrpcSettings
from smls_node.signature import DEFAULT, Signature
from tests.node.memory import Brightness, MemoryNode, Named

OIP = "inference.GRPCInferenceService"
REPOSITORY = "inference.model_repository.ModelRepositoryService"
PREDICTION = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"

SECONDS = 20.0
"""What takes longer has hung."""


class Echo(Brightness):
    """A model that gives back what it is given, under the same names."""

    def __init__(self) -> None:
        self.signatures = {DEFAULT: Signature((), (), batches=False, is_open=True)}
        self.example: Tensors = {}
        self.parameters: list[Mapping[str, Any]] = []

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        self.parameters.append(parameters)
        return inputs


class Doubles(Brightness):
    """A model with one signature of each method: y = 2x, a regression, and three classes."""

    def __init__(self) -> None:
        x = TensorSpec("x", "FP32", (-1, 2))
        text = TensorSpec("examples", "BYTES", (-1,))
        self.signatures = {
            DEFAULT: Signature((x,), (TensorSpec("y", "FP32", (-1, 2)),)),
            "regress": Signature((x,), (TensorSpec("outputs", "FP32", (-1, 1)),), method="regress"),
            "classify": Signature(
                (text,),
                (TensorSpec("classes", "BYTES", (-1, 2)), TensorSpec("scores", "FP32", (-1, 2))),
                method="classify",
            ),
        }
        self.example = {"x": np.zeros((1, 2), np.float32)}

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        if signature == "regress":
            return {"outputs": inputs["x"].sum(axis=1, keepdims=True)}
        if signature == "classify":
            rows = []
            for each in inputs["examples"]:
                example = message("tensorflow.Example").FromString(each)
                rows.append(list(example.features.feature["x"].float_list.value)[:2])
            names = np.array([[b"low", b"high"]] * len(rows), np.object_)
            return {"classes": names, "scores": np.array(rows, np.float32)}
        return {"y": inputs["x"] * 2}


class GrpcNode:
    """A ``MemoryNode`` with a gRPC server on a free port; ``pump`` is its reactor and worker."""

    def __init__(self, *models: Named, max_upload: int = 100_000, **more: Any) -> None:
        self._calls: queue.Queue[Callable[[], Any]] = queue.Queue()
        self.node = MemoryNode(*models, **more)
        self.server = self.another(0, max_upload=max_upload)
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")

    def another(self, port: int, *, max_upload: int = 100_000, shared: bool = False) -> GrpcServer:
        """One more server for the same node, not started."""
        settings = GrpcSettings("127.0.0.1", port, 30.0, max_upload, "1.2.3", shared)
        return GrpcServer(self.node.serving, self.from_thread, settings)

    def from_thread(self, call: Callable[..., Any], *given: Any) -> None:
        self._calls.put(lambda: call(*given))

    def begin(self, service_name: str, method: str, timeout: float = SECONDS, **fields: Any) -> Any:
        """A call that is under way: ``grpc.Future``."""
        return stub(self.channel, service_name, method)(fields, timeout)

    def call(self, service_name: str, method: str, timeout: float = SECONDS, **fields: Any) -> Any:
        """The answer to a call, the worker doing its work meanwhile."""
        return self.end(self.begin(service_name, method, timeout, **fields))

    def end(self, future: Any) -> Any:
        self.pump(future.done)
        return future.result()

    def refused(self, service_name: str, method: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
        """The status of a call that fails, and what is told."""
        future = self.begin(service_name, method, **fields)
        self.pump(future.done)
        return future.code(), future.details()

    def pump(self, until: Callable[[], Any], *, work: bool = True) -> None:
        """Does what comes to the reactor, and with ``work`` the models' work, until then."""
        tries = 0
        while not until():
            try:
                self._calls.get(timeout=0.005)()
            except queue.Empty:
                tries += 1
                assert tries < 200 * SECONDS, "hangs"
            if work:
                self.node.work()

    def close(self) -> None:
        self.channel.close()
        stopped: list[None] = []
        self.server.stop().addCallback(stopped.append)
        self.pump(lambda: stopped)


@contextmanager
def grpc_node(*models: Named, **more: Any) -> Iterator[GrpcNode]:
    node = GrpcNode(*models, **more)
    try:
        yield node
    finally:
        node.close()


def stub(channel: grpc.Channel, service_name: str, method: str) -> Callable[..., Any]:
    """Begins the call with a message's fields and a timeout."""
    described = service(service_name).methods_by_name[method]
    takes, gives = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
    call = channel.unary_unary(
        f"/{service_name}/{method}", takes.SerializeToString, gives.FromString
    )
    return lambda fields, timeout=SECONDS, **more: call.future(
        takes(**fields), timeout=timeout, **more
    )
