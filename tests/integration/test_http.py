# SPDX-License-Identifier: MIT
"""HTTP as clients on real sockets speak it: a connection that is kept, requests sent ahead, HEAD,
OPTIONS, gzip both ways, and web pages of another origin."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection

import numpy as np
import pytest

from smls.inference import LENGTH_HEADER, InferRequest, read_answer, write_request
from tests.integration.fleet import UNMEASURED, Fleet, ask, connect, port_of, reply
from tests.integration.graphs import write_constant
from tests.memory import Reply, parse, request
from tests.processes import DEADLINE_SECONDS, LOCAL, Running, running

ORIGIN = "https://a.example"

INFER = "/v2/models/tones/infer"
PREDICT = "/v1/models/tones:predict"

READ = ("/metrics", "/healthz", "/v2/models/tones", "/v1/models/tones", "/", "/v2/docs")
CHANGING = ("/metrics", "/")
"""What tells of now, and is not as long the next time."""

ROWS = 3000
"""So many rows' scores are enough JSON to be packed."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A node that pages of ``ORIGIN`` may ask, with a model of three scores."""
    graph = write_constant(tmp_path_factory.mktemp("graphs"), "tones", [1, 2, 4])
    with running("smls-node", *LOCAL, *UNMEASURED, *graph, "--cors", ORIGIN) as node:
        yield node


@pytest.fixture
def connection(node: Running) -> Iterator[HTTPConnection]:
    """A connection that is the same one after the test."""
    with closing(connect(node.url)) as connection:
        connection.connect()
        # Where the node closes it, a request fails instead of opening another.
        connection.auto_open = 0
        yield connection
        assert asked(connection, "GET", "/healthz").status == 200


def asked(
    connection: HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    return reply(connection.getresponse())


def pixels(rows: int = 1) -> np.ndarray:
    return np.zeros((rows, 4, 4, 3), np.float32)


def predict(rows: int = 1) -> tuple[str, bytes, dict[str, str]]:
    return PREDICT, json.dumps({"instances": pixels(rows).tolist()}).encode(), {}


def infer_json(rows: int = 1) -> tuple[str, bytes, dict[str, str]]:
    tensor = {"name": "input", "datatype": "FP32", "shape": [rows, 4, 4, 3]}
    body = {"inputs": [{**tensor, "data": pixels(rows).reshape(-1).tolist()}]}
    return INFER, json.dumps(body).encode(), {}


def infer_bytes(rows: int = 1) -> tuple[str, bytes, dict[str, str]]:
    body = write_request(InferRequest({"input": pixels(rows)}, binary=True))
    return INFER, body.data, {LENGTH_HEADER: str(body.json_bytes)}


def scores(answer: Reply) -> np.ndarray:
    """What a predict or an infer brought back."""
    if LENGTH_HEADER in answer.headers:
        return read_answer(answer.body, int(answer.headers[LENGTH_HEADER])).outputs["final_result"]
    body = gzip.decompress(answer.body) if "Content-Encoding" in answer.headers else answer.body
    told = json.loads(body)
    if "predictions" in told:
        return np.array(told["predictions"])
    (output,) = told["outputs"]
    return np.array(output["data"]).reshape(output["shape"])


def check_scores(answer: Reply, rows: int) -> None:
    assert answer.status == 200, answer.body
    exps = np.exp([1, 2, 4])
    np.testing.assert_allclose(scores(answer), [exps / exps.sum()] * rows, rtol=1e-5)


Ask = Callable[..., tuple[str, bytes, dict[str, str]]]


@pytest.mark.parametrize("ask_for", [predict, infer_json, infer_bytes])
def test_a_connection_is_kept_and_bodies_may_be_gzip_files(
    connection: HTTPConnection, ask_for: Ask
) -> None:
    path, body, headers = ask_for(2)
    for _ in range(3):
        check_scores(asked(connection, "POST", path, body, **headers), 2)
        packed = asked(
            connection, "POST", path, gzip.compress(body), **headers, Content_Encoding="gzip"
        )
        check_scores(packed, 2)
    refused = asked(connection, "POST", path, b"{", **{LENGTH_HEADER: "x"})
    assert refused.status == 400
    assert asked(connection, "GET", "/nowhere").status == 404


@pytest.mark.parametrize("ask_for", [predict, infer_json])
def test_large_answers_come_as_gzip_files_where_asked_for(
    connection: HTTPConnection, ask_for: Ask
) -> None:
    path, body, _ = ask_for(ROWS)
    packed = asked(connection, "POST", path, body, Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    check_scores(packed, ROWS)
    plain = asked(connection, "POST", path, body, Accept_Encoding="identity")
    assert "Content-Encoding" not in plain.headers
    assert len(plain.body) > len(packed.body)
    check_scores(plain, ROWS)


def test_bytes_go_as_they_are(connection: HTTPConnection) -> None:
    path, body, headers = infer_bytes(ROWS)
    answer = asked(connection, "POST", path, body, **headers, Accept_Encoding="gzip")
    assert "Content-Encoding" not in answer.headers
    check_scores(answer, ROWS)


def test_requests_that_are_sent_ahead_are_answered_in_order(node: Running) -> None:
    """The first ones take the longest, and each is another face's."""
    path, body, headers = infer_bytes(7)
    sent = [
        request("POST", PREDICT, predict(ROWS)[1]),
        request("POST", path, body, **headers),
        request("GET", "/healthz"),
        request("HEAD", "/v2/docs"),
        request("GET", "/v1/models/tones", Connection="close"),
    ]
    with socket.create_connection(("127.0.0.1", port_of(node.url)), DEADLINE_SECONDS) as peer:
        peer.sendall(b"".join(sent))
        came = peer.makefile("rb").read()
    large, small, health, head, last = answers(came, "POST", "POST", "GET", "HEAD", "GET")
    check_scores(large, ROWS)
    check_scores(small, 7)
    assert health.status == head.status == 200
    assert int(head.headers["Content-Length"]) > len(head.body) == 0
    assert last.json["model_version_status"][0]["state"] == "AVAILABLE"


def answers(came: bytes, *methods: str) -> Iterator[Reply]:
    """The answers to requests of these methods, and nothing else."""
    for method in methods:
        head, end, rest = came.partition(b"\r\n\r\n")
        length = int(parse(head).headers["Content-Length"]) if method != "HEAD" else 0
        yield parse(head + end + rest[:length])
        came = rest[length:]
    assert came == b""


@pytest.mark.parametrize("path", READ)
def test_head_is_get_without_its_body(connection: HTTPConnection, path: str) -> None:
    whole = asked(connection, "GET", path)
    for _ in range(2):
        head = asked(connection, "HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers.keys() == whole.headers.keys()
        apart = {"Date", "Server-Timing", *(("Content-Length",) if path in CHANGING else ())}
        for name in head.headers.keys() - apart:
            assert head.headers[name] == whole.headers[name]
        assert int(head.headers["Content-Length"]) > 0


@pytest.mark.parametrize("path", [PREDICT, INFER, "/classify", "/metrics"])
def test_options_without_cors_tell_what_a_path_takes(pair: Fleet, path: str) -> None:
    taken = "GET" if path == "/metrics" else "POST"
    url = f"{pair.nodes[1].url}{path[1:].replace('tones', 'digits')}"
    asking = {"Origin": ORIGIN, "Access_Control_Request_Method": taken}
    for headers in ({}, asking):
        answer = ask(url, None, "OPTIONS", **headers)
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")
        assert {"OPTIONS", taken} <= set(answer.headers["Allow"].split(", "))
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_a_page_of_another_origin_may_ask_in_bytes(connection: HTTPConnection) -> None:
    """As a browser does: it asks first whether it may, and reads the answer as far as told."""
    path, body, headers = infer_bytes()
    told = asked(
        connection,
        "OPTIONS",
        path,
        Origin=ORIGIN,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers=f"content-type,{LENGTH_HEADER.lower()}",
    )
    assert (told.status, told.body) == (200, b"")
    assert told.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert told.headers["Access-Control-Allow-Methods"] == "POST"
    assert LENGTH_HEADER.lower() in told.headers["Access-Control-Allow-Headers"]
    answer = asked(connection, "POST", path, body, **headers, Origin=ORIGIN)
    check_scores(answer, 1)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert LENGTH_HEADER in answer.headers["Access-Control-Expose-Headers"].split(", ")
    other = asked(connection, "OPTIONS", path, Origin="https://b.example")
    assert "Access-Control-Allow-Origin" not in other.headers
