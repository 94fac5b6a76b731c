# SPDX-License-Identifier: MIT
"""HTTP's manners on each of a node's routes: HEAD, OPTIONS, packed bodies, pages elsewhere."""

from __future__ import annotations

import gzip
import json
import re
import zlib

import pytest

from tests.memory import request
from tests.node.memory import HalfPlusTwo, MemoryNode, NodeConnection, form, image, model

READ = ("/", "/healthz", "/readyz", "/metrics", "/v1/models/half", "/v1/models/half/metadata")

PREDICT = "/v1/models/half:predict"


def node(**more: object) -> MemoryNode:
    return MemoryNode(model("half", runtime=HalfPlusTwo()), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", READ)
def test_head_is_get_without_its_body(path: str) -> None:
    served = node()
    whole, head = served.request("GET", path), served.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]
    assert int(head.headers["Content-Length"]) > 0
    assert served.request("HEAD", "/nowhere").body == b""


@pytest.mark.parametrize("path", [*READ, "/classify", PREDICT])
def test_options_tells_what_a_route_takes(path: str) -> None:
    reply = node().request("OPTIONS", path)
    assert (reply.status, reply.body) == (200, b"")
    assert "OPTIONS" in reply.headers["Allow"]
    assert ("POST" if path in ("/classify", PREDICT) else "GET") in reply.headers["Allow"]
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert node().request("OPTIONS", "/nowhere").status == 404


@pytest.mark.parametrize("path", [*READ, "/v2", "/v2/docs", "/v2/models/half", "/nowhere"])
def test_every_answer_says_how_long_it_took(path: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        timing = node().request(method, path).headers["Server-Timing"]
        assert re.fullmatch(r"read;dur=\d+\.\d\d, total;dur=\d+\.\d\d", timing)
    for wrong in (PREDICT, "/v2/models/half/infer"):
        assert "total;dur=" in node().request("POST", wrong, b"{}").headers["Server-Timing"]


def test_a_target_may_name_the_node_as_proxies_are_sent_it() -> None:
    body = b'{"instances": [1.0]}'
    for begin in ("http://node:8501", "HTTP://127.0.0.1", "https://[::1]:1"):
        assert node().request("POST", begin + PREDICT, body).json == {"predictions": [2.5]}
        assert node().request("GET", f"{begin}/v2/models/half?x=http://y").status == 200
        assert node().request("GET", begin).status == 200
        early = node().request("POST", f"{begin}/nowhere", body)
        assert (early.status, "nothing at /nowhere" in str(early.json)) == (404, True)


def test_bodies_may_come_as_gzip_or_zlib_files() -> None:
    body = json.dumps({"instances": [1.0]}).encode()
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        reply = node().request("POST", PREDICT, pack(body), Content_Encoding=encoding)
        assert reply.json == {"predictions": [2.5]}
    content_type, upload = form(image())
    served = MemoryNode()
    packed = gzip.compress(upload)
    assert served.request("POST", "/classify", packed, content_type, Content_Encoding="GZIP").json[
        "predictions"
    ]


def test_a_gzip_file_that_is_wrong_or_a_bomb_is_told() -> None:
    served = node()
    bomb = gzip.compress(bytes(10_000_000))
    reply = served.request("POST", PREDICT, bomb, Content_Encoding="gzip")
    assert reply.status == 413
    assert "more than the 100000 bytes" in reply.json["error"]
    for body in (b"text", gzip.compress(b"{}")[:-3]):
        reply = served.request("POST", PREDICT, body, Content_Encoding="gzip")
        assert reply.status == 400
        assert "Content-Encoding: the body" in reply.json["error"]
    reply = served.request("POST", PREDICT, b"x", Content_Encoding="br")
    assert (reply.status, reply.json) == (
        415,
        {"error": "Content-Encoding: got 'br', wanted gzip or deflate"},
    )
    assert reply.headers["Accept-Encoding"] == "gzip, deflate"
    reply = served.request("POST", "/classify", b"x", Content_Encoding="gzip, gzip")
    assert (reply.status, reply.code) == (415, "unsupported_encoding")
    assert served.request("POST", PREDICT, b'{"instances": [1.0]}').status == 200
    assert not served.site.in_flight


def test_large_answers_are_packed_for_those_who_take_it() -> None:
    body = json.dumps({"instances": [1.0] * 20_000}).encode()
    served = node(max_upload=1_000_000)
    plain = served.request("POST", PREDICT, body)
    packed = served.request("POST", PREDICT, body, Accept_Encoding="deflate, gzip;q=0.5")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.body) == plain.body
    for refusal in ("gzip;q=0", "deflate"):
        reply = served.request("POST", PREDICT, body, Accept_Encoding=refusal)
        assert "Content-Encoding" not in reply.headers
    elsewhere = node(max_upload=1_000_000, origins=("https://a.example",))
    packed = elsewhere.request("POST", PREDICT, body, Accept_Encoding="gzip")
    assert packed.headers["Vary"] == "Origin, Accept-Encoding"
    small = b'{"instances": [1.0]}'
    reply = served.request("POST", PREDICT, small, Accept_Encoding="gzip")
    assert "Content-Encoding" not in reply.headers


def test_pages_of_allowed_origins_may_read_answers_and_errors() -> None:
    served = node(origins=("https://a.example",))
    for path in (PREDICT, "/v1/models/none:predict", "/nowhere"):
        reply = served.request("POST", path, b'{"instances": [1.0]}', Origin="https://a.example")
        assert reply.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert reply.headers["Vary"] == "Origin"
        other = served.request("POST", path, b'{"instances": [1.0]}', Origin="https://b.example")
        assert "Access-Control-Allow-Origin" not in other.headers
    anyone = node(origins=("*",)).request("GET", "/metrics", Origin="https://b.example")
    assert anyone.headers["Access-Control-Allow-Origin"] == "*"
    assert (
        "Access-Control-Allow-Origin"
        not in node().request("GET", "/metrics", Origin="https://b.example").headers
    )


def test_a_browser_that_asks_first_is_told() -> None:
    reply = node(origins=("*",)).request(
        "OPTIONS",
        PREDICT,
        Origin="https://a.example",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="content-type, x-request-timeout-ms",
    )
    assert reply.status == 200
    assert reply.headers["Access-Control-Allow-Methods"] == "POST"
    assert "x-request-timeout-ms" in reply.headers["Access-Control-Allow-Headers"]


def test_requests_that_are_sent_ahead_are_answered_in_order() -> None:
    served = node()
    connection = NodeConnection(served.site)
    bodies = [json.dumps({"instances": [float(number)]}).encode() for number in range(3)]
    connection.send(b"".join(request("POST", PREDICT, body) for body in bodies))
    for _ in bodies:
        served.work()
        served.clock.advance(0)
    raw = connection.transport.value()
    assert raw.count(b"HTTP/1.1 200 OK") == 3
    places = [raw.index(b'{"predictions":[%b]}' % each) for each in (b"2.0", b"2.5", b"3.0")]
    assert places == sorted(places)
