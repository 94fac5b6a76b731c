# SPDX-License-Identifier: MIT
"""What a request costs over gRPC: our node beside its own HTTP and beside MLServer's gRPC.

``ModelInfer`` with one FP32 tensor as bytes, to a model that takes means and no more: a small one,
asked by one caller, by several on one channel and by several on a channel each, and one of
[32, 224, 224, 3], one request after the other. All three are asked by the same process with bodies
that are made before, in turns.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from urllib.parse import urlsplit

import grpc
import numpy as np
from tests.processes import LOCAL, Running, running

from bench import tensors
from smls.inference import BINARY, LENGTH_HEADER, InferRequest, write_request
from smls_node.faces.grpc.messages import message

ROUNDS = 2
SECONDS = 2.0
LARGE_CALLS = 7
SMALL, LARGE = (1, 8, 8, 3), tensors.SHAPE
METHOD = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

Call = Callable[[], object]
Target = Callable[[int, bytes], list[Call]]
"""So many callers of the request ``body`` on connections of their own."""


def main() -> None:
    with ExitStack() as stack:
        node = stack.enter_context(_node())
        mlserver = stack.enter_context(tensors.mlserver())
        for shape in (SMALL, LARGE):
            name = "small" if shape == SMALL else "averages"
            array = np.random.default_rng(0).random(shape, np.float32)
            ours = _grpc_body(name, array)
            targets: dict[str, tuple[Target, bytes]] = {
                "smls": (_over_grpc(node.grpc_address, False), ours),
                "smls, a channel each": (_over_grpc(node.grpc_address, True), ours),
                "smls, HTTP": (_over_http(node.url), _http_body(name, array, node.address)),
                "MLServer": (_over_grpc(mlserver.grpc, False), _grpc_body("averages", array)),
                "MLServer, a channel each": (
                    _over_grpc(mlserver.grpc, True),
                    _grpc_body("averages", array),
                ),
            }
            if shape == SMALL:
                for callers in (1, 8):
                    print(f"FP32 {list(shape)}, {callers} callers")
                    _rates(targets, callers)
            else:
                print(f"FP32 {list(shape)}, {array.nbytes / 1e6:.1f} MB")
                _seconds({name: targets[name] for name in targets if "each" not in name})


def _rates(targets: dict[str, tuple[Target, bytes]], callers: int) -> None:
    rates: dict[str, list[float]] = {}
    halves: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, (target, body) in targets.items():
            if "each" in name and callers == 1:
                continue
            times = _asked(target(callers, body), SECONDS)
            rates.setdefault(name, []).append(len(times) / SECONDS)
            halves.setdefault(name, []).append(statistics.median(times))
    for name, each in rates.items():
        rate, half = statistics.median(each), statistics.median(halves[name])
        print(f"  {name}: {rate:.0f} a second, p50 {1000 * half:.2f} ms", flush=True)


def _seconds(targets: dict[str, tuple[Target, bytes]]) -> None:
    calls = {name: target(1, body)[0] for name, (target, body) in targets.items()}
    times: dict[str, list[float]] = {}
    for turn in range(LARGE_CALLS + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if turn:
                times.setdefault(name, []).append(time.perf_counter() - begun)
    for name, each in times.items():
        print(f"  {name}: {1000 * statistics.median(each):.1f} ms", flush=True)


def _asked(calls: list[Call], seconds: float) -> list[float]:
    """How long each took of what these callers asked in so many seconds, each one by one."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    def ask(call: Call) -> None:
        while (begun := time.perf_counter()) < end:
            call()
            times.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=ask, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def _over_grpc(address: str, each: bool) -> Target:
    def target(callers: int, body: bytes) -> list[Call]:
        # Channels with the same options share a connection.
        own = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.insecure_channel(address, [*OPTIONS, *own]) for _ in range(callers if each else 1)
        ]
        calls = [channel.unary_unary(METHOD) for channel in channels]
        return [partial(calls[n % len(calls)], body, timeout=60) for n in range(callers)]

    return target


def _over_http(url: str) -> Target:
    """By hand: Python's own client takes longer than the node."""
    host = urlsplit(url)

    def target(callers: int, body: bytes) -> list[Call]:
        def caller() -> Call:
            connection = socket.create_connection((host.hostname, host.port), timeout=60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def ask() -> None:
                connection.sendall(body)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(1 << 16)
                head, _, rest = answer.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(answer)
                length = int(head.lower().split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
                while len(rest) < length:
                    rest += connection.recv(1 << 16)

            return ask

        return [caller() for _ in range(callers)]

    return target


def _grpc_body(model: str, array: np.ndarray) -> bytes:
    tensor = {"name": "input", "datatype": "FP32", "shape": array.shape}
    request = message("inference.ModelInferRequest")(
        model_name=model, inputs=[tensor], raw_input_contents=[array.tobytes()]
    )
    return bytes(request.SerializeToString())


def _http_body(model: str, array: np.ndarray, address: str) -> bytes:
    body = write_request(InferRequest({"input": array}, binary=True))
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {address}\r\nContent-Type: {BINARY}\r\n"
        f"{LENGTH_HEADER}: {body.json_bytes}\r\nContent-Length: {len(body.data)}\r\n\r\n"
    )
    return head.encode() + body.data


def _node() -> AbstractContextManager[Running]:
    options = ("--operator-threads", "1", "--runs", "2")
    models = [
        *(*tensors.graph(LARGE[1]), *options),
        *(*tensors.graph(SMALL[1], "small"), *options),
    ]
    return running("smls-node", *LOCAL, "--grpc-port", "0", "--max-upload", "200M", *models)


if __name__ == "__main__":
    main()
