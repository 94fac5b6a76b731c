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

from smls_node.counts import Traffic
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


def test_what_does_not_fit_is_counted_and_names_that_are_not_there_make_no_labels() -> None:
    node = MemoryNode(model("half", runtime=HalfPlusTwo()))
    half = {"model": "half", "version": "1"}
    node.request("POST", "/v1/models/half:predict", b'{"inputs": [[[1.0, 2.0, 3.0]]]}')
    node.request("POST", "/models/half", b"x", "image/jpeg")
    assert value(metrics(node), "smls_requests_total", **half, code="bad_request") == 2
    before = samples(metrics(node)).keys()
    for number in range(9):
        for path in (f"v1/models/{number}:predict", f"v2/models/{number}/infer", f"x{number}"):
            node.request("POST", f"/{path}", b"{}")
        node.request("GET", f"/v1/models/half/versions/{number + 2}")
        node.request(f"X{number}", "/")
    new = samples(metrics(node)).keys() - before
    assert {name for name, _ in new} == {"smls_http_responses_total"}
    assert {dict(labels)["status"] for _, labels in new} <= {"400", "404", "405"}


def test_the_grpc_port_is_told_of_where_there_is_one() -> None:
    assert not {name for name, _ in samples(metrics(MemoryNode())) if "grpc" in name}
    calls = Traffic(lambda: 3)
    node = MemoryNode(calls=calls)
    assert value(metrics(node), "smls_grpc_in_flight") == 3
    for code, seconds in (("OK", 0.1), ("OK", 0.2), ("NOT_FOUND", 0.4)):
        calls.answered(code, seconds)
    reply = metrics(node)
    assert value(reply, "smls_grpc_responses_total", code="OK") == 2
    assert value(reply, "smls_grpc_responses_total", code="NOT_FOUND") == 1
    assert value(reply, "smls_grpc_request_seconds_bucket", le="0.25") == 2


UNITS = ("_seconds", "_bytes", "_rows", "_ratio", "_info")
"""Prometheus's base units, what it counts here, and what is a fact."""


def test_names_are_as_prometheus_advises() -> None:
    families = [
        family
        for family in text_string_to_metric_families(metrics(asked_node()).body.decode())
        if family.name.startswith("smls_")
    ]
    assert len(families) > 15
    for family in families:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", family.name)
        kinds = {each.name.removeprefix(family.name) for each in family.samples}
        if family.type == "counter":
            assert kinds == {"_total"}
        elif family.type == "histogram":
            assert kinds == {"_bucket", "_count", "_sum"}
            assert family.name.endswith(UNITS)
        else:
            assert (family.type, kinds) == ("gauge", {""})
            assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))


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


BOARD = json.loads((ROOT / "docs" / "grafana.json").read_text())

TARGETS = [(panel, target) for panel in BOARD["panels"] for target in panel["targets"]]

VARIABLES = {each["name"]: each for each in BOARD["templating"]["list"]}

SCRAPED = {"job", "instance"}
"""The labels that Prometheus itself gives to what it reads."""


def asked_node() -> MemoryNode:
    """A node that has answered over HTTP and over gRPC, and so has every metric."""
    calls = Traffic(lambda: 0)
    calls.answered("OK", 0.1)
    node = MemoryNode(calls=calls)
    node.post("/classify", image())
    return node


def labels() -> dict[str, set[str]]:
    """Those of each metric."""
    found: dict[str, set[str]] = {}
    for name, labelled in samples(metrics(asked_node())):
        found.setdefault(name, set(SCRAPED)).update(label for label, _ in labelled)
    return found


def test_the_dashboard_asks_for_labels_that_its_metrics_have() -> None:
    there, checked = labels(), set()
    for _, target in TARGETS:
        expr = target["expr"]
        # With its braces or without them, whatever is a metric's name.
        selected = re.findall(r"\b((?:smls|process|python)_\w+)(?:{([^}]*)})?", expr)
        assert selected
        kept = [set(re.split(r",\s*", each)) for each in re.findall(r"\bby \(([^)]*)\)", expr)]
        legend = set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
        for name, matchers in selected:
            matched = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
            # Without its job, a query would count what is not asked about.
            assert "job" in matched, expr
            for wanted in (matched, legend, *kept):
                assert wanted <= there[name], (expr, wanted - there[name])
            checked |= matched | legend
        # A sum keeps no label but those it names.
        for each in kept:
            assert legend <= each, target
        if not kept and re.match(r"(sum|max|min|avg|count)\b", expr):
            assert not legend, target
    assert {"job", "model", "version", "code", "status", "state", "instance"} <= checked
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            read = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
            assert read is not None
            assert read[2] in there[read[1]]


def test_the_dashboard_has_what_grafana_imports() -> None:
    assert isinstance(BOARD["schemaVersion"], int)
    assert BOARD["title"]
    assert re.fullmatch(r"[\w-]{1,40}", BOARD["uid"])
    # With an id of its own it would take the place of another one's dashboard.
    assert BOARD.get("id") is None
    source = {"type": "prometheus", "uid": "${datasource}"}
    chosen = VARIABLES["datasource"]
    assert (chosen["type"], chosen["query"]) == ("datasource", "prometheus")
    assert all(each["datasource"] == source for each in VARIABLES.values() if each is not chosen)
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        assert panel["type"]
        assert panel["title"]
        assert panel["datasource"] == source
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert cells
        assert not cells & taken
        taken |= cells
    for _, target in TARGETS:
        assert target["datasource"] == source
        named = set(re.findall(r"\$\{?(\w+)", target["expr"]))
        assert named <= {*VARIABLES, "__rate_interval"}


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    there = {name for name, _ in samples(metrics(asked_node()))}
    asked = [target["expr"] for _, target in TARGETS]
    asked += [each["query"] for each in VARIABLES.values()]
    named = set(re.findall(r"\b(?:smls|process|python)_\w+", " ".join(asked)))
    assert len(named) > 12
    assert named <= there
    ours = {name for name in there if name.startswith("smls_")}
    unused = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in ours - named}
    shown = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in named}
    assert unused - shown <= {"smls_node_info", "smls_workers"}
