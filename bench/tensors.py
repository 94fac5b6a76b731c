# SPDX-License-Identifier: MIT
"""What a large tensor costs over the Open Inference Protocol: our node beside MLServer.

One request of FP32 [32, 224, 224, 3] after the other, as bytes and as JSON, to a model that takes
means and no more: TensorFlow's here, numpy's there. The servers take turns.

With ``--health``: what ``/healthz`` of our node sees meanwhile, while one JSON request follows the
other.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from attrs import frozen
from tests.processes import LOCAL, running

from bench import environments, processes
from bench.places import CACHE, PEERS
from bench.servers import free_ports
from smls.inference import LENGTH_HEADER, InferRequest, write_request

ROUNDS = 7
SHAPE = (32, 224, 224, 3)
OURS = Path(__file__).with_name("tensors_mlserver")
START_SECONDS = 60.0

INFER = "/v2/models/averages/infer"
PREDICT = "/v1/models/averages:predict"
JSON = "application/json"

Ask = Callable[[bytes, dict[str, str]], tuple[int, bytes]]


HEALTH_ROWS = (16, 2)
HEALTH_SECONDS = 5.0
HEALTH_PAUSE_SECONDS = 0.005


def main() -> None:
    if "--health" in sys.argv[1:]:
        health()
    else:
        beside_mlserver()


def health() -> None:
    """Seconds of ``/healthz`` while the node reads JSON tensors, and while it has nothing to do."""
    options = ("--operator-threads", "1", "--runs", "2", "--max-upload", "200M")
    with running("smls-node", *LOCAL, *options, *graph(SHAPE[1])) as node:
        print(f"nothing else: {_told(_healthy(node.address, lambda: None))}", flush=True)
        for rows in HEALTH_ROWS:
            images = np.random.default_rng(0).random((rows, *SHAPE[1:]), np.float32)
            item = {"name": "input", "datatype": "FP32", "shape": list(images.shape)}
            forms = {
                "V2, flat": (INFER, {"inputs": [{**item, "data": images.reshape(-1).tolist()}]}),
                "V2, nested": (INFER, {"inputs": [{**item, "data": images.tolist()}]}),
                "instances": (PREDICT, {"instances": images.tolist()}),
            }
            for form, (path, value) in forms.items():
                body = json.dumps(value).encode()
                seconds: list[float] = []

                def call(path: str = path, body: bytes = body, into: list[float] = seconds) -> None:
                    begun = time.perf_counter()
                    status, answer = _post(node.address, path, body, {"Content-Type": JSON})
                    if status != 200:
                        raise RuntimeError(f"{path}: {status} {answer[:200]!r}")
                    into.append(time.perf_counter() - begun)

                told = _told(_healthy(node.address, call))
                took = f"{len(seconds)} requests of {1000 * statistics.median(seconds):.0f} ms"
                print(f"{form} ({len(body) / 1e6:.1f} MB), {took}: {told}", flush=True)


def _healthy(address: str, call: Callable[[], None]) -> list[float]:
    """The seconds of each ``/healthz`` while ``call`` is made again and again."""
    stopping = threading.Event()

    def calls() -> None:
        while not stopping.wait(0.001):
            call()

    thread = threading.Thread(target=calls)
    thread.start()
    connection = http.client.HTTPConnection(address, timeout=60)
    found = []
    try:
        end = time.perf_counter() + HEALTH_SECONDS
        while (begun := time.perf_counter()) < end:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            found.append(time.perf_counter() - begun)
            time.sleep(HEALTH_PAUSE_SECONDS)
    finally:
        stopping.set()
        thread.join()
        connection.close()
    return found


def _told(seconds: list[float]) -> str:
    p50, p99 = np.percentile(seconds, [50, 99])
    most = max(seconds)
    return f"p50 {1000 * p50:.1f}, p99 {1000 * p99:.0f}, most {1000 * most:.0f} ms"


def beside_mlserver() -> None:
    images = np.random.default_rng(0).random(SHAPE, np.float32)
    binary = write_request(InferRequest({"input": images}))
    item = {"name": "input", "datatype": "FP32", "shape": list(SHAPE)}
    flat = {"inputs": [{**item, "data": images.reshape(-1).tolist()}]}
    nested = {"inputs": [{**item, "data": images.tolist()}]}
    bodies = {
        "bytes": (
            binary.data,
            {LENGTH_HEADER: str(binary.json_bytes), "Content-Type": "application/octet-stream"},
        ),
        "JSON, flat": (json.dumps(flat).encode(), {"Content-Type": "application/json"}),
        "JSON, nested": (json.dumps(nested).encode(), {"Content-Type": "application/json"}),
    }
    del flat, nested
    wanted = images.mean(axis=(1, 2)).reshape(-1)
    options = ("--operator-threads", "1", "--runs", "2", "--max-upload", "200M")
    with running("smls-node", *LOCAL, *options, *graph(SHAPE[1])) as node, mlserver() as theirs:
        asks = {"smls": _asker(node.address), "MLServer": _asker(theirs.http)}
        for form, (body, headers) in bodies.items():
            times = _measure(asks, body, headers, wanted)
            told = ", ".join(f"{name} {1000 * each:.0f} ms" for name, each in times.items())
            own, other = times["smls"], times.get("MLServer")
            ratio = f"; {other / own:.1f} times" if other else "; MLServer refuses it"
            print(f"{form} ({len(body) / 1e6:.1f} MB): {told}{ratio}", flush=True)


def _measure(
    asks: dict[str, Ask], body: bytes, headers: dict[str, str], wanted: np.ndarray
) -> dict[str, float]:
    """The median seconds of those who answer rightly; the first round does not count."""
    times: dict[str, list[float]] = {}
    for turn in range(ROUNDS + 1):
        for name, ask in asks.items():
            begun = time.perf_counter()
            status, answer = ask(body, headers)
            seconds = time.perf_counter() - begun
            if status != 200:
                if not turn:
                    print(f"{name}: {status} {answer[:200]!r}")
                continue
            got = json.loads(answer)["outputs"][0]["data"]
            np.testing.assert_allclose(np.ravel(got), wanted, rtol=1e-3)
            if turn:
                times.setdefault(name, []).append(seconds)
    return {name: statistics.median(each) for name, each in times.items()}


def _asker(address: str) -> Ask:
    return lambda body, headers: _post(address, INFER, body, headers)


def _post(address: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def _wait(ask: Ask) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            ask(b"{}", {"Content-Type": "application/json"})
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def graph(side: int, name: str = "averages") -> tuple[str, ...]:
    """The options for a model of that name that takes the means of images of ``side`` pixels."""
    folder = CACHE / "tensors"
    folder.mkdir(parents=True, exist_ok=True)
    file, labels = folder / f"{name}.pb", folder / f"{name}.txt"
    code = f"""
import tensorflow as tf
with tf.Graph().as_default() as graph:
    images = tf.compat.v1.placeholder(tf.float32, [None, {side}, {side}, 3], name="input")
    tf.reduce_mean(images, [1, 2], name="means")
open({str(file)!r}, "wb").write(graph.as_graph_def().SerializeToString())
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=environments.variables())
    labels.write_text("red\ngreen\nblue\n")
    return "--graph", str(file), "--labels", str(labels)


@frozen
class Addresses:
    http: str
    grpc: str


@contextmanager
def mlserver() -> Iterator[Addresses]:
    """An MLServer with the same model."""
    place = environments.environment("mlserver", PEERS / "mlserver" / "requirements.txt")
    ports = free_ports(3)
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")
    variables = {f"MLSERVER_{name}": str(port) for name, port in zip(names, ports, strict=True)} | {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
        "MLSERVER_GRPC_MAX_MESSAGE_LENGTH": str(1 << 30),
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    environment = environments.variables() | variables
    environment.pop("PYTHONPATH", None)
    log = (CACHE / "tensors" / "mlserver.log").open("wb")
    command = [str(place / "bin" / "mlserver"), "start", "."]
    started = subprocess.Popen(
        command,
        cwd=OURS,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _wait(_asker(f"127.0.0.1:{ports[0]}"))
        yield Addresses(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
    finally:
        processes.end(started)


if __name__ == "__main__":
    main()
