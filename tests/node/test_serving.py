# SPDX-License-Identifier: MIT
"""Deadlines, priorities, hang-ups and reports of a node, over HTTP in memory."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from smls.wire import LOAD_HEADER, load_from_header
from smls_node.batchtime import BatchTime
from smls_node.serving import GIVE_WAY_SECONDS
from smls_node.settings import Limits
from tests.memory import Reply
from tests.node.memory import Brightness, MemoryNode, NodeConnection, form, image, model

BRIGHT, DARK = image(255), image(0)
SLOW = [(1, 0.1), (2, 0.2)]


def ask(node: MemoryNode, data: bytes = BRIGHT, query: str = "", **headers: str) -> NodeConnection:
    connection = NodeConnection(node.site)
    content_type, body = form(data)
    lines = [
        f"POST /classify{query} HTTP/1.1",
        f"Content-Length: {len(body)}",
        f"Content-Type: {content_type}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    connection.send("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def labels(*replies: Reply) -> list[str]:
    return [reply.json["predictions"][0]["label"] for reply in replies]


def test_requests_that_wait_together_run_together_and_keep_their_answers() -> None:
    runtime = Brightness()
    node = MemoryNode(model("m", runtime=runtime), time=BatchTime([(1, 1.0), (8, 1.07)]))
    asked = [ask(node, each) for each in (BRIGHT, DARK, b"junk", BRIGHT)]
    node.work()
    replies = [connection.reply() for connection in asked]
    assert runtime.batches == [3]
    assert labels(replies[0], replies[1], replies[3]) == ["bright", "dark", "bright"]
    assert replies[2].status == 415


def test_answers_in_a_batch_are_those_alone() -> None:
    pictures = [image(brightness) for brightness in range(0, 256, 32)]
    alone = [MemoryNode().post("/", each).json for each in pictures]
    together = MemoryNode(time=BatchTime([(1, 1.0), (8, 1.07)])).post("/", *pictures).json
    assert together == alone


def test_every_answer_says_where_its_time_went_and_how_busy_the_node_is() -> None:
    node = MemoryNode(time=BatchTime(SLOW), workers=2, queue=Limits(max_batch_size=1))
    first, second = ask(node), ask(node, b"junk")
    node.work()
    for connection in (first, second):
        reply = connection.reply()
        stages = [stage.split(";")[0] for stage in reply.headers["Server-Timing"].split(", ")]
        assert stages == ["read", "queue", "decode", "infer", "encode", "total"]
        header = reply.headers[LOAD_HEADER.title()]
        assert len(header) <= 200
        report = load_from_header(header)
        assert (report.runs, report.batch_max) == (2, 1)
    assert (report.in_flight, report.queue) == (0, 0)


def test_the_time_in_the_queue_counts_from_when_the_body_was_there() -> None:
    node = MemoryNode()
    connection = ask(node)
    node.clock.advance(0.25)
    node.work()
    assert "queue;dur=250.00" in connection.reply().headers["Server-Timing"]


def test_who_cannot_be_served_in_time_is_refused_at_once() -> None:
    node = MemoryNode(time=BatchTime(SLOW), queue=Limits(max_batch_size=1))
    waiting = [ask(node) for _ in range(5)]
    node.workers.batcher.take(0.0)
    refused = ask(node, X_Request_Timeout_Ms="300").reply()
    assert (refused.status, refused.code) == (503, "overloaded")
    assert refused.json["error"]["waiting"] == 4
    assert refused.headers["Retry-After"] == "1"
    assert load_from_header(refused.headers[LOAD_HEADER.title()]).queue == 4
    assert all(connection.transport.value() == b"" for connection in waiting)


def test_all_workers_may_go_on_and_for_the_busiest_the_reactor_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = MemoryNode(model("busy"), model("calm"))
    waited: dict[str, float] = {}
    for each in node.serving.catalogue.models:
        monkeypatch.setattr(each.workers, "give_way", partial(waited.__setitem__, each.name))
    node.serving.give_way()
    assert waited == {"busy": 0.0, "calm": 0.0}
    monkeypatch.setattr(type(node.workers), "behind", property(lambda it: it is node.workers))
    node.serving.give_way()
    assert waited == {"busy": GIVE_WAY_SECONDS, "calm": 0.0}


def test_the_reactor_rests_where_all_models_have_work_for_a_while() -> None:
    limits = Limits(max_batch_size=2)
    node = MemoryNode(model("busy"), model("calm"), queue=limits, time=BatchTime(SLOW))
    for name in ("busy", "calm"):
        assert not node.serving.may_rest()
        for _ in range(limits.largest):
            ask(node, query=f"?model={name}")
    assert node.serving.may_rest()
    node.work()
    assert not node.serving.may_rest()


def test_for_a_model_that_is_done_with_its_queue_at_once_it_does_not_rest() -> None:
    node = MemoryNode(time=BatchTime([(1, 0.0001), (2, 0.0002)]))
    for _ in range(100):
        ask(node)
    assert not node.serving.may_rest()


def test_where_no_batch_wakes_the_reactor_it_does_not_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = MemoryNode(queue=Limits(max_batch_size=1), time=BatchTime(SLOW))
    ask(node)
    assert node.serving.may_rest()
    monkeypatch.setattr(node.workers, "wakes", False)
    assert not node.serving.may_rest()


def test_a_node_without_models_does_not_rest() -> None:
    node = MemoryNode()
    node.serving.catalogue.remove(*node.serving.catalogue.models)
    assert not node.serving.may_rest()


def test_a_request_whose_deadline_comes_is_answered_and_not_run() -> None:
    runtime = Brightness()
    node = MemoryNode(model("m", runtime=runtime))
    late, good = ask(node, X_Request_Timeout_Ms="100"), ask(node)
    node.clock.advance(0.2)
    node.serving.expire()
    reply = late.reply()
    assert (reply.status, reply.code) == (504, "deadline_exceeded")
    node.work()
    assert good.reply().status == 200
    assert runtime.batches == [1]


def test_a_request_whose_model_hangs_is_answered_when_its_deadline_comes() -> None:
    node = MemoryNode()
    connection = ask(node, X_Request_Timeout_Ms="100")
    batch = node.workers.batcher.take(0.0)
    assert batch is not None
    node.clock.advance(0.2)
    node.serving.expire()
    assert connection.reply().status == 504
    node.workers._run(batch)
    assert connection.transport.value() == b""


def test_a_deadline_counts_from_the_headers_not_from_the_bodys_end() -> None:
    node = MemoryNode()
    connection = NodeConnection(node.site)
    content_type, body = form(BRIGHT)
    connection.send(
        f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\nContent-Type: {content_type}\r\n"
        "X-Request-Timeout-Ms: 100\r\n\r\n".encode()
    )
    node.clock.advance(0.2)
    connection.send(body)
    node.serving.expire()
    assert connection.reply().status == 504


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_timeout_that_is_none_is_told(text: str) -> None:
    reply = ask(MemoryNode(), X_Request_Timeout_Ms=text).reply()
    assert (reply.status, reply.code) == (400, "bad_request")


def test_who_hangs_up_takes_its_queued_work_along() -> None:
    runtime = Brightness()
    node = MemoryNode(model("m", runtime=runtime), queue=Limits(max_batch_size=1))
    gone, good = ask(node), ask(node)
    gone.channel.connectionLost(Failure(ConnectionDone()))
    node.work()
    assert good.reply().status == 200
    assert runtime.batches == [1]


def test_a_higher_priority_goes_first() -> None:
    node = MemoryNode(queue=Limits(max_batch_size=1))
    usual, urgent = ask(node), ask(node, query="?priority=1")
    assert node.workers.step()
    assert urgent.reply().status == 200
    assert usual.transport.value() == b""
    assert ask(node, query="?priority=10").reply().status == 400


def test_a_full_queue_refuses_and_serves_on() -> None:
    node = MemoryNode(queue=Limits(max_queue_size=2))
    waiting = [ask(node), ask(node)]
    refused = ask(node).reply()
    assert (refused.status, refused.code) == (503, "overloaded")
    node.work()
    assert [connection.reply().status for connection in waiting] == [200, 200]


def test_one_image_that_makes_the_model_fail_fails_alone() -> None:
    class Picky(Brightness):
        def infer(self, inputs, signature, parameters):  # type: ignore[no-untyped-def]
            outputs = super().infer(inputs, signature, parameters)
            if any(np.mean(each) == 0 for each in inputs["image"]):
                raise RuntimeError("black")
            return outputs

    node = MemoryNode(model("m", runtime=Picky()))
    asked = [ask(node, each) for each in (BRIGHT, DARK, BRIGHT, BRIGHT)]
    node.work()
    statuses = [connection.reply().status for connection in asked]
    assert statuses == [200, 500, 200, 200]


def test_a_score_that_is_no_number_fails_alone() -> None:
    class Undefined(Brightness):
        def infer(self, inputs, signature, parameters):  # type: ignore[no-untyped-def]
            rows = super().infer(inputs, signature, parameters)["scores"]
            rows[rows[:, 0] == 1] = np.nan
            return {"scores": rows}

    reply = MemoryNode(model("m", runtime=Undefined())).post("/", BRIGHT, DARK)
    first, second = json.loads(reply.body)
    assert first[0][0] == "bright"
    assert second["error"]["code"] == "internal"
