# SPDX-License-Identifier: MIT
"""``/metrics``, read as Prometheus reads it, and the dashboard that names what is there."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from smls_node.faces.metrics import PATHS
from smls_node.versions import Standing, State
from tests.memory import Reply, request
from tests.node.memory import Broken, HalfPlusTwo, MemoryNode, NodeConnection, form, image, model
from tests.processes import ROOT

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(reply: Reply) -> Samples:
    assert reply.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


def value(reply: Reply, name: str, **labels: str) -> float:
    return samples(reply)[name, tuple(sorted(labels.items()))]


def metrics(node: MemoryNode) -> Reply:
    return node.request("GET", "/metrics")


LIGHT = {"model": "light", "version": "1"}


@pytest.mark.parametrize("path", PATHS)
def test_prometheus_reads_them_in_both_of_its_formats(path: str) -> None:
    node = MemoryNode()
    reply = node.request("GET", path)
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    assert samples(reply)["smls_ready", ()] == 1
    accept = "application/openmetrics-text; version=1.0.0"
    open_reply = node.request("GET", path, Accept=accept)
    assert open_reply.headers["Content-Type"].startswith("application/openmetrics-text")
    families = openmetrics.text_string_to_metric_families(open_reply.body.decode())
    assert "smls_requests" in {family.name for family in families}


def test_requests_are_counted_by_outcome_and_timed() -> None:
    node = MemoryNode(model("light"), model("dim", runtime=Broken()))
    for _ in range(2):
        node.post("/classify", image(), model="light")
    node.post("/classify", b"text", model="light")
    node.post("/classify", image(), model="dim")
    node.post("/classify", image(), model="none")
    reply = metrics(node)
    assert value(reply, "smls_requests_total", **LIGHT, code="ok") == 2
    assert value(reply, "smls_requests_total", **LIGHT, code="not_an_image") == 1
    dim = {"model": "dim", "version": "1"}
    assert value(reply, "smls_requests_total", **dim, code="internal") == 1
    for name in ("request", "queue", "decode", "inference"):
        assert value(reply, f"smls_{name}_seconds_count", **LIGHT) == 3
    assert value(reply, "smls_batch_rows_sum", **LIGHT) == 3
    assert value(reply, "smls_batch_rows_bucket", **LIGHT, le="1.0") == 3
    assert value(reply, "smls_http_responses_total", status="200") == 2
    assert value(reply, "smls_http_responses_total", status="404") == 1
    assert value(reply, "smls_http_request_seconds_count") == 5


def test_the_rows_of_a_batch_are_those_of_all_its_requests() -> None:
    node = MemoryNode(model("half", runtime=HalfPlusTwo()))
    node.request("POST", "/v1/models/half:predict", b'{"instances": [1.0, 2.0, 5.0]}')
    reply = metrics(node)
    half = {"model": "half", "version": "1"}
    assert value(reply, "smls_batch_rows_sum", **half) == 3
    assert value(reply, "smls_batch_rows_count", **half) == 1
    assert value(reply, "smls_requests_total", **half, code="ok") == 1


def test_what_waits_is_told_and_what_leaves_is_counted() -> None:
    node = MemoryNode()
    content_type, body = form(image())
    connection = NodeConnection(node.site)
    post = request("POST", "/classify", body, Content_Type=content_type)
    connection.send(post)
    asking = NodeConnection(node.site)
    asking.send(request("GET", "/metrics"))
    reply = asking.reply()
    assert value(reply, "smls_queued_rows", **LIGHT) == 1
    assert value(reply, "smls_in_flight_rows", **LIGHT) == 1
    assert value(reply, "smls_http_in_flight") == 2
    connection.channel.connectionLost(Failure(ConnectionDone()))
    late = NodeConnection(node.site)
    late.send(request("POST", "/classify", body, Content_Type=content_type))
    node.clock.advance(31)
    node.serving.expire()
    assert late.reply().status == 504
    reply = metrics(node)
    assert value(reply, "smls_requests_total", **LIGHT, code="cancelled") == 1
    assert value(reply, "smls_requests_total", **LIGHT, code="deadline_exceeded") == 1
    assert value(reply, "smls_queued_rows", **LIGHT) == 0


def test_each_version_is_in_one_state() -> None:
    node = MemoryNode()
    node.serving.catalogue.stand([Standing("next", "2", State.LOADING)])
    reply = metrics(node)
    for name, version, now in (("light", "1", "AVAILABLE"), ("next", "2", "LOADING")):
        for state in State:
            labels = {"model": name, "version": version, "state": state.value}
            assert value(reply, "smls_model_state", **labels) == (state.value == now)
    assert value(reply, "smls_model_load_seconds", **LIGHT) == 0


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    node = MemoryNode()
    node.post("/classify", image())
    there = {name for name, _ in samples(metrics(node))}
    board = json.loads((ROOT / "docs" / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [each["query"] for each in board["templating"]["list"]]
    named = set(re.findall(r"\b(?:smls|process|python)_\w+", " ".join(asked)))
    assert len(named) > 12
    assert named <= there
    ours = {name for name in there if name.startswith("smls_")}
    unused = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in ours - named}
    shown = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in named}
    assert unused - shown <= {"smls_node_info", "smls_workers"}
