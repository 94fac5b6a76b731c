# SPDX-License-Identifier: MIT
import json
import re

import pytest
from twisted.internet.task import Clock

from smls.wire import (
    ModelRecord,
    NodeRecord,
    NodeState,
    listing_from_json,
    node_from_json,
    node_to_json,
)
from smls_registry.app import MAX_BODY, RegistryApp
from smls_registry.leases import LeaseTable
from smls_registry.roster import Roster
from smls_registry.stores.memory import MemoryStore
from tests.memory import Connection, ask, parse, request

NODE_PATHS = ["/classify", "/embed", "/models", "/v1/models", "/v2", "/estimators"]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table():
    return LeaseTable(Roster("history"), 10.0, max_nodes=5)


@pytest.fixture
def site(table, clock):
    return RegistryApp(MemoryStore(table, clock.seconds), clock).site()


def node(node_id="a", port=8501, **fields):
    return NodeRecord(node_id, f"192.0.2.1:{port}", **fields)


def announce(site, record):
    body = json.dumps(node_to_json(record)).encode()
    return ask(site, "PUT", f"/v1/nodes/{record.id}", body)


def listed(site, query=""):
    reply = ask(site, "GET", f"/v1/nodes{query}")
    assert reply.status == 200
    return listing_from_json(reply.json)


def test_announcing_names_the_lease(site):
    reply = announce(site, node())
    assert reply.status == 201
    assert reply.json == {"id": "a", "ttl_seconds": 10.0, "revision": 1}
    again = announce(site, node())
    assert again.status == 200
    assert again.json == reply.json
    assert listed(site).nodes == (node(),)


def test_a_record_may_leave_its_id_to_the_path(site):
    reply = ask(site, "PUT", "/v1/nodes/a", b'{"address": "192.0.2.1:8501", "new_field": 1}')
    assert reply.status == 201
    assert listed(site).nodes == (node(),)


def test_a_lease_runs_out_by_the_clock(site, clock):
    announce(site, node())
    clock.advance(9.99)
    assert listed(site).nodes == (node(),)
    announce(site, node("b", 2))
    clock.advance(0.01)
    assert listed(site).nodes == (node("b", 2),)
    assert listed(site).revision == 3
    assert ask(site, "GET", "/v1/nodes/a").status == 404


def test_the_last_node_that_falls_silent_is_a_suspect_until_it_is_heard_of(site, clock):
    announce(site, node())
    clock.advance(10)
    assert listed(site).nodes == (node(state=NodeState.SUSPECT),)
    assert ask(site, "GET", "/v1/nodes/a").json["lease"]["expires_in_seconds"] == 50
    assert ask(site, "GET", "/next").status == 200
    assert announce(site, node(state=NodeState.SUSPECT)).status == 200
    assert listed(site).nodes == (node(),)
    clock.advance(10)
    assert len(listed(site).nodes) == 1
    clock.advance(50)
    assert listed(site).nodes == ()


def test_a_withdrawn_node_is_gone_at_once(site):
    announce(site, node())
    assert ask(site, "DELETE", "/v1/nodes/a").json == {"id": "a", "revision": 2}
    assert listed(site).nodes == ()
    assert ask(site, "DELETE", "/v1/nodes/a").code == "not_found"


def test_one_node_is_shown_with_its_lease(site, clock):
    announce(site, node(zone="west"))
    clock.advance(4)
    shown = ask(site, "GET", "/v1/nodes/a").json
    assert node_from_json(shown) == node(zone="west")
    assert shown["lease"] == {"age_seconds": 4.0, "expires_in_seconds": 6.0}


def test_nodes_are_listed_by_model(site):
    announce(site, node("a", 1, models=(ModelRecord("flowers"),)))
    announce(site, node("b", 2, models=(ModelRecord("birds"),)))
    assert [held.id for held in listed(site).nodes] == ["a", "b"]
    assert [held.id for held in listed(site, "?model=birds").nodes] == ["b"]
    assert listed(site, "?model=fish").nodes == ()


def test_next_takes_turns(site):
    for number in range(3):
        announce(site, node(str(number), number + 1, models=(ModelRecord("flowers"),)))
    answers = [ask(site, "GET", "/next?model=flowers") for _ in range(6)]
    assert answers[0].headers["Content-Type"].startswith("text/plain")
    assert [reply.body for reply in answers] == [
        b"192.0.2.1:%d\n" % port for port in (1, 2, 3, 1, 2, 3)
    ]


@pytest.mark.parametrize("target", ["/next", "/next?model=fish", "/classify", "/v1/models/fish"])
def test_where_no_node_lives_503_says_so(site, target):
    if "fish" in target:
        announce(site, node())
    reply = ask(site, "GET", target)
    assert reply.status == 503
    assert reply.code == "no_live_nodes"
    assert int(reply.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("root", NODE_PATHS)
@pytest.mark.parametrize("below", ["", "/", "/x", "/x/y:predict"])
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b"data"), ("POST", b"")])
def test_the_nodes_paths_are_sent_on(site, root, below, method, body):
    announce(site, node(models=(ModelRecord("x"),)))
    reply = ask(site, method, f"{root}{below}?a=b%20c&d=%C3%A4", body)
    assert reply.status == 307
    assert reply.headers["Location"] == f"http://192.0.2.1:8501{root}{below}?a=b%20c&d=%C3%A4"


def test_an_upload_to_the_root_is_sent_on_and_a_get_is_not(site):
    announce(site, node(scheme="https"))
    assert ask(site, "POST", "/", b"x").headers["Location"] == "https://192.0.2.1:8501/"
    assert ask(site, "POST", "/").status == 307
    assert ask(site, "GET", "/").status == 200


def test_a_redirect_goes_to_a_node_that_serves_the_model(site):
    announce(site, node("a", 1, models=(ModelRecord("flowers"),)))
    announce(site, node("b", 2, models=(ModelRecord("birds"),)))
    for target in ("/classify?model=birds", "/v1/models/birds:predict", "/v2/models/birds/infer"):
        for _ in range(2):
            reply = ask(site, "POST", target, b"x")
            assert reply.headers["Location"] == f"http://192.0.2.1:2{target}"
    assert ask(site, "POST", "/classify?model=-", b"x").code == "bad_record"


def test_an_upload_is_sent_on_before_it_is_sent(site):
    announce(site, node())
    connection = Connection(site)
    raw = request(
        "POST", "/classify", Content_Length="1000000", Expect="100-continue", Content_Type="a/b"
    )
    reply = parse(connection.send(raw))
    assert reply.status == 307
    assert reply.headers["Connection"] == "close"
    assert connection.transport.ended == "half"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 20000,
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"address": 7}',
        b'{"address": "nohost"}',
        b'{"address": "h:0"}',
        b'{"address": "h:65536"}',
        b'{"id": "b", "address": "h:1"}',
        b'{"id": null, "address": "h:1"}',
        b'{"address": "h:1", "models": {}}',
        b'{"address": "h:1", "models": [{"name": ""}]}',
        b'{"address": "h:1", "scheme": "ftp"}',
        b'{"address": "h:1", "zone": "%s"}' % (b"z" * 129),
    ],
)
def test_what_is_no_record_is_refused(site, body):
    reply = ask(site, "PUT", "/v1/nodes/a", body)
    assert reply.status == 400
    assert reply.code in ("bad_request", "bad_record")
    assert listed(site).revision == 0


@pytest.mark.parametrize("name", ["-a", "a%20b", "%C3%A4", "a" * 129])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unlawful_id_is_refused(site, name, method):
    body = b'{"address": "h:1"}' if method == "PUT" else b""
    assert ask(site, method, f"/v1/nodes/{name}", body).code == "bad_record"


def test_a_record_over_64_kb_is_refused_from_its_head(site):
    connection = Connection(site)
    reply = parse(connection.send(request("PUT", "/v1/nodes/a", Content_Length=str(MAX_BODY + 1))))
    assert reply.status == 413
    assert reply.code == "too_large"


def test_a_record_of_64_kb_is_read(site):
    body = json.dumps(node_to_json(node())).encode()
    padded = body[:-1] + b" " * (MAX_BODY - len(body)) + b"}"
    assert ask(site, "PUT", "/v1/nodes/a", padded).status == 201


def test_a_full_registry_says_so(site):
    for number in range(5):
        announce(site, node(str(number), number + 1))
    reply = announce(site, node("6", 6))
    assert reply.status == 503
    assert reply.code == "overloaded"
    assert "Retry-After" in reply.headers


@pytest.mark.parametrize("target", ["/nothing", "/v1", "/v1/nodes/a/b", "//v1//nodes", "/healthz/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
@pytest.mark.parametrize("body", [b"", b"x"])
def test_unknown_paths_are_404(site, target, method, body):
    reply = ask(site, method, target, body)
    assert reply.status == 404
    if method == "HEAD":
        assert reply.body == b""
        assert int(reply.headers["Content-Length"]) > 0
    else:
        assert reply.code == "not_found"


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/v1/nodes", {"GET", "HEAD"}),
        ("DELETE", "/next", {"GET", "HEAD"}),
        ("POST", "/v1/nodes/a", {"GET", "HEAD", "PUT", "DELETE"}),
        ("PUT", "/", {"GET", "HEAD", "POST"}),
    ],
)
@pytest.mark.parametrize("body", [b"", b"x"])
def test_a_wrong_method_is_405(site, method, target, allowed, body):
    reply = ask(site, method, target, body)
    assert reply.status == 405
    assert reply.code == "method_not_allowed"
    assert set(re.split(", *", reply.headers["Allow"])) == allowed


def test_options_tells_what_a_path_takes(site):
    reply = ask(site, "OPTIONS", "/v1/nodes/a")
    assert (reply.status, reply.body) == (200, b"")
    allowed = set(re.split(", *", reply.headers["Allow"]))
    assert allowed == {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}


@pytest.mark.parametrize("target", ["/healthz", "/next", "/v1/nodes", "/"])
def test_head_is_get_without_the_body(site, target):
    announce(site, node())
    got, head = ask(site, "GET", target), ask(site, "HEAD", target)
    assert head.status == got.status == 200
    assert head.body == b""
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


def test_a_fault_of_ours_is_a_500_whose_id_is_in_the_log(site, table, events):
    table.roster.listing = None
    reply = ask(site, "GET", "/v1/nodes")
    assert reply.status == 500
    assert reply.code == "internal"
    assert b"Traceback" not in reply.body
    faults = [event for event in events if "fault_id" in event]
    assert faults[0]["fault_id"] in reply.json["error"]["message"]


def test_changes_are_logged_with_fields(site, clock, events):
    announce(site, node("a"))
    announce(site, node("a"))
    announce(site, node("a", zone="west"))
    announce(site, node("b"))
    ask(site, "DELETE", "/v1/nodes/b")
    announce(site, node("d", 2))
    announce(site, node("c"))
    clock.advance(10)
    ask(site, "GET", "/next")
    told = [
        (event.get("what", "replaced"), event["node_id"])
        for event in events
        if event.get("log_namespace") == "smls_registry.app.RegistryApp"
    ]
    assert told == [
        ("announced", "a"),
        ("changed", "a"),
        ("replaced", "b"),
        ("announced", "b"),
        ("withdrawn", "b"),
        ("announced", "d"),
        ("announced", "c"),
        ("expired", "d"),
        ("suspected", "c"),
    ]


def test_the_root_says_what_it_is(site):
    announce(site, node())
    root = ask(site, "GET", "/").json
    assert (root["name"], root["ttl_seconds"]) == ("smls-registry", 10.0)
    assert listing_from_json(root).nodes == (node(),)


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize("target", ["/", "/v1/nodes"])
@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (BROWSER, "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("text/html;q=0.1, application/json", "application/json"),
    ],
)
def test_a_browser_gets_a_page(site, target, accept, kind):
    reply = ask(site, "GET", target, Accept=accept)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == kind
    assert reply.headers["Vary"] == "Accept"


def test_the_page_runs_nothing_that_a_node_says(site):
    evil = "<script>alert(1)</script>\"'"
    announce(
        site,
        NodeRecord(
            "a",
            "host:1",
            name=evil,
            zone=evil,
            models=(ModelRecord("flowers", state="<i>", labels_hash=evil),),
        ),
    )
    reply = ask(site, "GET", "/", Accept="text/html")
    assert b"<script" not in reply.body
    assert b"<i>" not in reply.body
    assert b"&lt;script&gt;" in reply.body
    assert b"flowers" in reply.body
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
