# SPDX-License-Identifier: MIT
"""The node's calls over HTTP, both ends in memory."""

from __future__ import annotations

import gc
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from smls.request import LINGER_SECONDS
from smls_node.serving import Phase
from tests.garbage import left_by
from tests.memory import request
from tests.node.memory import Broken, MemoryNode, NodeConnection, form, image, model

BRIGHT, DARK = image(255), image(0)
INFER = json.dumps(
    {
        "inputs": [
            {"name": "image", "datatype": "FP32", "shape": [1, 8, 8, 3], "data": [0.5] * 192},
        ]
    }
).encode()


def test_root_answers_as_the_seeds_server_did() -> None:
    reply = MemoryNode().post("/", BRIGHT)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == [["bright", 1.0], ["dark", 0.0]]


def test_classify_answers_an_object_that_says_who_answered() -> None:
    assert MemoryNode().post("/classify", DARK).json == {
        "model": "light",
        "version": "1",
        "node": "node-1",
        "predictions": [{"label": "dark", "score": 1.0}, {"label": "bright", "score": 0.0}],
    }


def test_top_bounds_the_labels() -> None:
    node = MemoryNode()
    assert node.post("/?top=1", BRIGHT).json == [["bright", 1.0]]
    assert node.post("/", BRIGHT, top="1").json == [["bright", 1.0]]
    assert len(node.post("/?top=99", BRIGHT).json) == 2


@pytest.mark.parametrize("top", ["0", "-1", "x", "1.5", "٣"])
def test_a_top_that_is_no_count_is_told(top: str) -> None:
    reply = MemoryNode().post("/classify", BRIGHT, top=top)
    assert (reply.status, reply.code) == (400, "bad_request")
    assert top in reply.json["error"]["message"]


def test_several_images_answer_in_order_with_an_error_in_its_items_place() -> None:
    node = MemoryNode()
    pairs = node.post("/?top=1", BRIGHT, b"no image", DARK).json
    assert pairs[0] == [["bright", 1.0]]
    assert pairs[1]["error"]["code"] == "not_an_image"
    assert pairs[2] == [["dark", 1.0]]
    results = node.post("/classify?top=1", BRIGHT, b"no image", DARK).json["results"]
    assert results[0]["predictions"] == [{"label": "bright", "score": 1.0}]
    assert results[1]["error"]["code"] == "not_an_image"
    assert results[2]["predictions"] == [{"label": "dark", "score": 1.0}]


def test_an_image_may_come_as_it_is_and_under_any_field_name() -> None:
    node = MemoryNode()
    assert node.request("POST", "/?top=1", BRIGHT, "image/png").json == [["bright", 1.0]]
    octets = node.request("POST", "/?top=1", BRIGHT, "application/octet-stream")
    assert octets.json == [["bright", 1.0]]
    content_type, body = form(BRIGHT, field="anything")
    assert node.request("POST", "/", body, content_type).status == 200


def test_the_model_is_chosen_by_query_or_field() -> None:
    node = MemoryNode(model("a"), model("b", "1"), model("b", "10"), model("b", "9"))
    assert node.post("/classify?model=a", BRIGHT).json["model"] == "a"
    assert node.post("/classify", BRIGHT, model="b").json["version"] == "10"
    assert node.post("/classify?model=b&version=9", BRIGHT).json["version"] == "9"


def test_a_model_that_is_not_named_or_not_there_is_told_with_the_names() -> None:
    node = MemoryNode(model("a"), model("b"))
    unnamed, unknown = node.post("/", BRIGHT), node.post("/?model=c", BRIGHT)
    assert (unnamed.status, unnamed.code) == (400, "bad_request")
    assert (unknown.status, unknown.code) == (404, "model_not_found")
    for reply in (unnamed, unknown):
        assert "a, b" in reply.json["error"]["message"]
    version = node.post("/?model=a&version=7", BRIGHT)
    assert (version.status, version.code) == (404, "model_not_found")
    assert MemoryNode(model("a"), model("b"), default="b").post("/", BRIGHT).status == 200


def test_bad_images_are_told_by_their_kind() -> None:
    node = MemoryNode(max_pixels=1000)
    assert node.post("/", b"text").status == 415
    assert node.post("/", b"").status == 415
    assert node.post("/", image(kind="JPEG", size=30)[:-40]).status == 422
    assert node.post("/", BRIGHT[:12]).status == 422
    too_many = node.post("/", image(size=100))
    assert (too_many.status, too_many.code) == (413, "too_large")


def test_malformed_forms_are_told_and_harm_no_next_request() -> None:
    node = MemoryNode()
    content_type, body = form(BRIGHT)
    cut = node.request("POST", "/", body[:-20], content_type)
    assert (cut.status, cut.code) == (400, "bad_request")
    empty = node.request("POST", "/", form(top="1")[1], content_type)
    assert (empty.status, empty.code) == (400, "bad_request")
    other = node.request("POST", "/", b"a=b", "application/x-www-form-urlencoded")
    assert (other.status, other.code) == (415, "not_an_image")
    no_boundary = node.request("POST", "/", body, "multipart/form-data")
    assert no_boundary.status == 400
    assert node.request("POST", "/").status == 415
    assert node.post("/", BRIGHT).status == 200


@given(st.binary(max_size=200), st.booleans())
def test_no_body_whatever_is_our_fault(body: bytes, whole: bool) -> None:
    content_type, text = form(body)
    sent = text if whole else text.replace(b"--x--", b"")
    assert 400 <= MemoryNode().request("POST", "/", sent, content_type).status < 500


def test_unknown_paths_and_methods_are_told_as_json() -> None:
    node = MemoryNode()
    for body in (b"", b"x"):
        nowhere = node.request("POST", "/nowhere", body, "image/png")
        assert (nowhere.status, nowhere.code) == (404, "not_found")
        wrong = node.request("PUT", "/classify", body, "image/png")
        assert (wrong.status, wrong.code) == (405, "method_not_allowed")
        assert wrong.headers["Allow"] == "POST"


def test_a_fault_of_ours_is_a_500_whose_id_is_in_the_log() -> None:
    events: list[str] = []

    def observe(event: dict[str, object]) -> None:
        if "fault_id" in event:
            events.append(str(event["fault_id"]))

    globalLogPublisher.addObserver(observe)
    try:
        reply = MemoryNode(model("bad", runtime=Broken())).post("/", BRIGHT)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert (reply.status, reply.code) == (500, "internal")
    assert b"Traceback" not in reply.body
    assert b"a fault in the model" not in reply.body
    assert events
    assert events[0] in reply.json["error"]["message"]


def test_too_large_an_upload_is_refused_before_it_is_all_there() -> None:
    node = MemoryNode(max_upload=1000)
    connection = NodeConnection(node.site)
    connection.send(b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 5000\r\n\r\nfirst bytes")
    assert connection.reply().status == 413
    connection.send(b"more that nobody reads")
    assert connection.transport.ended == "half"
    node.clock.advance(LINGER_SECONDS)
    assert connection.transport.ended == "aborted"


def test_too_large_a_chunked_upload_is_refused_where_it_grows_too_large() -> None:
    connection = NodeConnection(MemoryNode(max_upload=10).site)
    connection.send(b"POST / HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.send(b"8\r\n12345678\r\n")
    assert connection.transport.value() == b""
    connection.send(b"8\r\n12345678\r\n")
    assert connection.reply().status == 413


def test_a_refused_client_is_never_asked_to_go_on() -> None:
    connection = NodeConnection(MemoryNode(max_upload=10).site)
    connection.send(
        b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n"
    )
    assert connection.transport.value().startswith(b"HTTP/1.1 413 ")


def test_a_node_that_loads_or_drains_refuses_but_lives() -> None:
    node = MemoryNode()
    for phase in (Phase.LOADING, Phase.DRAINING):
        node.serving.phase = phase
        refused = node.post("/classify", BRIGHT)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        assert node.request("GET", "/readyz").status == 503
        assert node.request("GET", "/healthz").status == 200
    node.serving.phase = Phase.READY
    assert node.request("GET", "/readyz").status == 200


def test_an_upload_that_had_begun_before_the_drain_is_answered() -> None:
    node = MemoryNode()
    connection = NodeConnection(node.site)
    content_type, body = form(BRIGHT)
    whole = request("POST", "/classify", body, Content_Type=content_type)
    connection.send(whole[:-1])
    node.serving.phase = Phase.DRAINING
    connection.send(whole[-1:])
    node.work()
    answer = connection.reply()
    assert (answer.status, answer.json["predictions"][0]["label"]) == (200, "bright")


def test_the_root_says_what_the_node_is_to_programs_and_to_people() -> None:
    node = MemoryNode(model("<b>"))
    about = node.request("GET", "/").json
    assert about["node"] == "node-1"
    assert about["models"][0]["labels"] == 2
    page = node.request("GET", "/", Accept="text/html,*/*;q=0.8")
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"&lt;b&gt;" in page.body
    assert b"<b></b>" not in page.body
    assert b'href="/v2/docs"' in page.body
    assert node.request("HEAD", "/").body == b""


def test_the_site_is_idle_once_all_is_answered() -> None:
    node = MemoryNode()
    connection = NodeConnection(node.site)
    content_type, body = form(BRIGHT)
    head = f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\nContent-Type: {content_type}\r\n\r\n"
    connection.send(head.encode() + body[:10])
    idle: list[bool] = []
    node.site.when_idle().addCallback(lambda _: idle.append(True))
    connection.send(body[10:])
    assert not idle
    node.work()
    assert idle
    assert connection.reply().status == 200


def test_a_client_that_hangs_up_leaves_nothing_in_flight_and_is_no_fault() -> None:
    node = MemoryNode()
    connection = NodeConnection(node.site)
    content_type, body = form(BRIGHT, DARK)
    head = f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\nContent-Type: {content_type}\r\n\r\n"
    faults: list[object] = []

    def observe(event: dict[str, object]) -> None:
        if "log_failure" in event:
            faults.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        connection.send(head.encode() + body)
        assert node.site.in_flight
        connection.channel.connectionLost(Failure(ConnectionDone()))
        assert not node.site.in_flight
        node.work()
        # What nobody handled is told when it is collected.
        del connection
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert faults == []
    assert node.post("/", BRIGHT).status == 200


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status"),
    [
        ("/classify", *form(BRIGHT), 200),
        ("/classify", *form(b"no image"), 415),
        ("/classify", *form(BRIGHT[:40]), 422),
        ("/classify", *form(BRIGHT, b"no image"), 200),
        ("/classify", "text/plain", b"x", 415),
        ("/classify?top=x", *form(BRIGHT), 400),
        ("/v2/models/light/infer", "application/json", b'{"inputs": [1', 400),
        ("/v1/models/light:predict", "application/json", b'{"instances": ["a"]}', 400),
        ("/v2/models/broken/infer", "application/json", INFER, 500),
    ],
)
def test_an_answer_leaves_nothing_to_the_garbage_collector(
    path: str, content_type: str, body: bytes, status: int
) -> None:
    node = MemoryNode(model("light"), model("broken", runtime=Broken()), default="light")
    connection = NodeConnection(node.site)

    def answer() -> None:
        connection.send(request("POST", path, body, Content_Type=content_type))
        node.work()
        assert connection.reply().status == status

    answer()
    assert left_by(answer) == []


def test_a_client_that_leaves_in_mid_upload_leaves_nothing_either() -> None:
    node = MemoryNode()
    content_type, body = form(BRIGHT)
    whole = request("POST", "/", body, Content_Type=content_type)

    def leave() -> None:
        connection = NodeConnection(node.site)
        connection.send(whole[:-10])
        assert node.site.in_flight
        connection.channel.connectionLost(Failure(ConnectionDone()))
        # A real one forgets whom it had to stop, as soon as it is gone.
        connection.transport.unregisterProducer()

    leave()
    assert left_by(leave) == []
