# SPDX-License-Identifier: MIT
"""Streams over HTTP in memory: what watchers are told, and leases that are held."""

import json
import re

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from smls.wire import (
    SETTLING_SECONDS,
    ModelRecord,
    NodeRecord,
    NodeState,
    delta_from_json,
    listing_from_json,
    node_to_json,
)
from smls_registry.app import RegistryApp
from smls_registry.leases import LeaseTable
from smls_registry.roster import Roster
from smls_registry.stores.memory import MemoryStore
from smls_registry.streams import MAX_UNSENT
from smls_registry.watch import GAP_SECONDS
from tests.memory import Connection, ask, parse, request


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table():
    return LeaseTable(Roster("history", kept=5))


@pytest.fixture
def app(table, clock):
    app = RegistryApp(MemoryStore(table, clock.seconds), clock)
    app.start()
    return app


@pytest.fixture
def site(app):
    return app.site()


def node(node_id="a", port=8501, models=("flowers",), **fields):
    models = tuple(map(ModelRecord, models))
    return NodeRecord(node_id, f"192.0.2.1:{port}", models=models, **fields)


def announce(site, record):
    body = json.dumps(node_to_json(record)).encode()
    return ask(site, "PUT", f"/v1/nodes/{record.id}", body)


class Open(Connection):
    """A stream that was asked for, and its events by now."""

    def __init__(self, site, target, **headers):
        super().__init__(site)
        self.reply = parse(self.send(request("GET", target, **headers)))

    @property
    def text(self):
        return parse(self.transport.value()).body.decode()

    @property
    def events(self):
        """``(event, id, data)`` of each that was told."""
        found = re.findall(r"^event: (.*)\nid: (.*)\ndata: (.*)\n\n", self.text, re.MULTILINE)
        read = {"snapshot": listing_from_json, "delta": delta_from_json}
        return [(kind, at, read[kind](json.loads(data))) for kind, at, data in found]

    def close(self, reason=ConnectionDone):
        self.channel.connectionLost(Failure(reason()))


def watch(site, query="", last=None):
    headers = {} if last is None else {"Last_Event_ID": last}
    return Open(site, f"/v1/watch{query}", **headers)


def hold(site, node_id="a"):
    return Open(site, f"/v1/nodes/{node_id}/lease")


def settle(clock):
    clock.pump([0, GAP_SECONDS])


def test_a_watch_is_a_snapshot_and_then_each_change(site, clock):
    announce(site, node())
    settle(clock)
    stream = watch(site)
    assert stream.reply.status == 200
    assert stream.reply.headers["Content-Type"] == "text/event-stream"
    assert "Content-Length" not in stream.reply.headers
    announce(site, node("b", 2))
    settle(clock)
    announce(site, node("b", 2, zone="west"))
    settle(clock)
    ask(site, "DELETE", "/v1/nodes/a")
    settle(clock)
    (kind, at, listing), *deltas = stream.events
    assert (kind, at, listing.revision, listing.nodes) == ("snapshot", "history:1", 1, (node(),))
    assert [(kind, at, delta.put, delta.gone) for kind, at, delta in deltas] == [
        ("delta", "history:2", (node("b", 2),), ()),
        ("delta", "history:3", (node("b", 2, zone="west"),), ()),
        ("delta", "history:4", (), ("a",)),
    ]


def test_a_watch_that_missed_nothing_hears_so_at_once(site, clock):
    announce(site, node())
    settle(clock)
    assert watch(site, last="history:1").text == ": heartbeat\n\n"


def test_a_renewal_is_no_event(site, clock):
    stream = watch(site)
    announce(site, node())
    settle(clock)
    for body in (b'{"address": "192.0.2.1:8501", "models": [{"name": "flowers"}]}',) * 2:
        assert ask(site, "PUT", "/v1/nodes/a", body).status == 200
    announce(site, node())
    settle(clock)
    assert len(stream.events) == 2


def test_a_node_that_is_replaced_goes_in_the_same_change(site, clock):
    announce(site, node("old"))
    settle(clock)
    stream = watch(site)
    announce(site, node("new"))
    settle(clock)
    (_, _, delta) = stream.events[1]
    assert (delta.put, delta.gone) == ((node("new"),), ("old",))


def test_a_watch_for_a_model_hears_of_that_model_alone(site, clock):
    stream = watch(site, "?model=birds")
    announce(site, node("a", 1))
    announce(site, node("b", 2, ["birds"]))
    announce(site, node("b", 2, ["birds", "flowers"]))
    announce(site, node("b", 2, ["flowers"]))
    announce(site, node("b", 2, ["flowers"], zone="west"))
    settle(clock)
    _, first, second, third = stream.events
    assert (first[1], first[2].put) == ("history:2", (node("b", 2, ["birds"]),))
    assert (second[1], second[2].put) == ("history:3", (node("b", 2, ["birds", "flowers"]),))
    assert (third[1], third[2].put, third[2].gone) == ("history:4", (), ("b",))
    assert ask(site, "GET", "/v1/watch?model=-").code == "bad_record"


def test_a_suspect_is_told_with_its_state(site, clock):
    announce(site, node())
    stream = watch(site)
    clock.advance(10)
    settle(clock)
    ask(site, "GET", "/healthz")
    ask(site, "GET", "/next")
    settle(clock)
    assert stream.events[-1][2].put == (node(state=NodeState.SUSPECT),)


def test_a_watcher_that_comes_back_hears_what_it_missed(site, clock):
    for number in range(4):
        announce(site, node(str(number), number + 1))
    settle(clock)
    stream = watch(site, last="history:2")
    assert [(kind, at) for kind, at, _ in stream.events] == [
        ("delta", "history:3"),
        ("delta", "history:4"),
    ]
    assert watch(site, last="history:4").events == []


@pytest.mark.parametrize(
    "last", ["history:1", "history:99", "other:7", "history", "history:x", "7", "a b:1", "", "é"]
)
def test_where_the_history_does_not_reach_there_is_a_snapshot(site, clock, last):
    for number in range(7):
        announce(site, node(str(number), number + 1))
    settle(clock)
    ((kind, at, listing),) = watch(site, last=last).events
    assert (kind, at, len(listing.nodes)) == ("snapshot", "history:7", 7)


def test_each_stream_beats_each_five_seconds(site, clock):
    announce(site, node())
    streams = [watch(site), hold(site)]
    for stream in streams:
        assert "heartbeat" not in stream.text
    clock.pump([0.5] * 20)
    for stream in streams:
        assert stream.text.count(": heartbeat\n\n") == 2


def test_changes_that_come_fast_are_told_together_and_in_order(site, clock):
    stream = watch(site)
    announce(site, node("0", 1))
    clock.advance(0)
    writes = []
    write = stream.transport.write
    stream.transport.write = lambda data: (writes.append(data), write(data))
    for number in range(1, 20):
        announce(site, node(str(number), number + 1))
        clock.advance(0)
    late = watch(site)
    assert late.events == []
    clock.advance(GAP_SECONDS)
    assert len(writes) == 1
    assert [at for _, at, _ in stream.events] == [f"history:{number}" for number in range(21)]
    assert [at for _, at, _ in late.events] == ["history:20"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_watcher_that_does_not_read_is_dropped_and_costs_no_other(site, clock, taken):
    slow, other = watch(site), watch(site)
    slow.transport.producer.pauseProducing()
    records = [node("a", zone="z" * 100 + str(number % 10)) for number in range(2000)]
    for number, record in enumerate(records):
        announce(site, record)
        clock.advance(GAP_SECONDS)
        if taken and number % 100 == 0:
            slow.transport.producer.resumeProducing()
            slow.transport.producer.pauseProducing()
    assert len(other.events) == 2001
    assert slow.transport.ended == ("" if taken else "aborted")
    assert len(slow.text) < MAX_UNSENT + 1000 or taken


def test_a_watcher_that_is_stuck_is_dropped_though_nothing_changes(site, clock):
    announce(site, node())
    streams = [watch(site), hold(site)]
    for stream in streams:
        stream.transport.producer.pauseProducing()
    clock.pump([0.5] * 100)
    assert [stream.transport.ended for stream in streams] == ["aborted", "aborted"]


@pytest.mark.parametrize("reason", [ConnectionDone, ConnectionLost])
def test_a_lease_ends_with_the_connection_that_holds_it(site, clock, table, reason):
    announce(site, node())
    announce(site, node("b", 2))
    settle(clock)
    watcher, holder = watch(site), hold(site)
    holder.close(reason)
    settle(clock)
    assert watcher.events[-1][2].gone == ("a",)
    assert table.roster.listing().nodes == (node("b", 2),)


def test_an_older_connection_ends_no_lease_that_a_later_one_holds(site, table):
    announce(site, node())
    first, second = hold(site), hold(site)
    first.close()
    assert len(table.roster) == 1
    second.close()
    assert len(table.roster) == 0


def test_a_connection_of_a_replaced_node_leaves_the_new_one(site, table):
    announce(site, node("old"))
    holder = hold(site, "old")
    announce(site, node("new"))
    assert holder.transport.ended == "lost"
    holder.close()
    assert table.roster.listing().nodes == (node("new"),)


def test_what_the_registry_closes_ends_no_lease(site, clock, table):
    announce(site, node())
    holder = hold(site)
    holder.transport.producer.pauseProducing()
    for _ in range(9):
        announce(site, node())
        clock.pump([0.5] * 10)
    assert holder.transport.ended == "aborted"
    holder.close()
    assert len(table.roster) == 1


def test_stopping_ends_the_streams_and_no_lease(app, site, clock, table):
    announce(site, node())
    settle(clock)
    streams = [watch(site), hold(site)]
    stopping = app.stop()
    with pytest.raises(StopIteration):
        stopping.send(None)
    assert [stream.transport.ended for stream in streams] == ["lost", "lost"]
    for stream in streams:
        assert stream.transport.value().count(b"HTTP/1.1") == 1
        stream.close()
    assert len(table.roster) == 1
    assert len(streams[0].events) == 1


@pytest.mark.parametrize("node_id", ["b", "-"])
def test_a_lease_that_is_not_there_cannot_be_held(site, node_id):
    announce(site, node())
    reply = ask(site, "GET", f"/v1/nodes/{node_id}/lease")
    assert reply.code == ("not_found" if node_id == "b" else "bad_record")


@pytest.mark.parametrize("target", ["/v1/watch", "/v1/nodes/a/lease"])
def test_head_ends(site, target):
    announce(site, node())
    head = ask(site, "HEAD", target)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == "text/event-stream"


def test_streams_that_closed_leave_nothing_behind(app, site, clock):
    announce(site, node())
    for stream in [watch(site), watch(site, "?model=birds"), watch(site), hold(site)]:
        stream.close()
    assert app._watchers._streams == {}
    assert app._holders._latest == {}
    assert not any(app._heartbeats._slots)


def test_a_watcher_of_a_new_history_stays_and_one_of_the_old_is_sent_away(table, site, clock):
    roster = table.roster
    old = watch(site)
    roster.restart("other", 7)
    new = watch(site)
    assert old.transport.ended == "lost"
    announce(site, node())
    clock.advance(GAP_SECONDS)
    assert not new.transport.ended
    assert [at for _, at, _ in new.events] == ["other:7", "other:8"]


def test_a_registry_says_for_how_long_it_may_not_know_all_nodes(site, clock):
    def settling():
        ((_, _, listing),) = watch(site).events
        return listing.settling

    assert settling()
    clock.advance(SETTLING_SECONDS - 0.1)
    assert settling()
    clock.advance(0.1)
    assert not settling()
