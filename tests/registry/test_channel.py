# SPDX-License-Identifier: MIT
"""Renewals on a kept connection, over HTTP in memory."""

import json
import re

import pytest
from twisted.internet.task import Clock

from smls.routes import Routes
from smls_registry.app import RegistryApp
from smls_registry.leases import LeaseTable
from smls_registry.roster import Roster
from smls_registry.stores.memory import MemoryStore
from tests.memory import Connection, ask, parse, request

BODY = b'{"address": "192.0.2.1:8501"}'
RENEWAL = request("PUT", "/v1/nodes/a", BODY)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table():
    return LeaseTable(Roster("history"))


@pytest.fixture
def app(table, clock):
    return RegistryApp(MemoryStore(table, clock.seconds), clock)


@pytest.fixture
def site(app):
    return app.site()


@pytest.fixture
def read(monkeypatch):
    """The requests that were routed, and not answered from what was known."""
    seen = []
    render = Routes.render
    monkeypatch.setattr(
        Routes,
        "render",
        lambda self, request: (seen.append(request.uri), render(self, request))[1],
    )
    return seen


def say(connection, data=RENEWAL):
    connection.transport.clear()
    return parse(connection.send(data))


def test_the_same_renewal_is_read_twice_and_then_no_more(site, read, clock, table):
    connection = Connection(site)
    replies = []
    for _ in range(5):
        replies.append(say(connection))
        clock.advance(9)
    assert [reply.status for reply in replies] == [201, 200, 200, 200, 200]
    assert all(reply.json == replies[0].json for reply in replies)
    assert {"Date", "Content-Type", "Content-Length"} <= set(replies[-1].headers)
    assert len(read) == 2
    assert table.lease("a").expires_at == 46
    assert not connection.transport.disconnecting


def test_what_another_said_meanwhile_is_taken_back(site, table):
    connection = Connection(site)
    for _ in range(3):
        say(connection)
    ask(site, "PUT", "/v1/nodes/a", BODY.replace(b":8501", b":9000"))
    assert say(connection).json["revision"] == 3
    assert table.roster.get("a").address == "192.0.2.1:8501"


def test_a_lease_that_ended_is_announced_anew(site, table, clock):
    connection = Connection(site)
    for _ in range(3):
        say(connection)
    ask(site, "DELETE", "/v1/nodes/a")
    assert say(connection).status == 201
    clock.advance(10)
    table.expire(10)
    assert say(connection).json["revision"] == 5


@pytest.mark.parametrize("cut", [1, 3, 20, len(RENEWAL) - 5])
def test_renewals_in_pieces_are_read_as_ever(site, cut):
    connection = Connection(site)
    for _ in range(4):
        connection.transport.clear()
        connection.send(RENEWAL[:cut])
        assert parse(connection.send(RENEWAL[cut:])).status in (200, 201)


def test_several_requests_in_one_piece_are_all_answered(site, clock):
    connection = Connection(site)
    health = request("GET", "/healthz")
    for _ in range(3):
        for data in (RENEWAL + health, RENEWAL + RENEWAL, health + RENEWAL):
            connection.transport.clear()
            connection.send(data)
            clock.advance(0)
            assert connection.transport.value().count(b"HTTP/1.1 20") == 2


def test_a_renewal_waits_for_what_was_sent_ahead_of_it(site, clock):
    connection = Connection(site)
    say(connection)
    say(connection)
    connection.transport.clear()
    connection.send(request("GET", "/healthz") * 2)
    connection.send(RENEWAL)
    clock.advance(0)
    clock.advance(0)
    bodies = re.findall(rb'\{"(status|id)"', connection.transport.value())
    assert bodies == [b"status", b"status", b"id"]


def test_another_request_on_the_connection_is_read(site):
    connection = Connection(site)
    for _ in range(3):
        say(connection)
    assert json.loads(say(connection, request("GET", "/healthz")).body) == {"status": "ok"}
    assert say(connection).status == 200


def test_an_idle_connection_is_closed_after_its_last_renewal(site, clock):
    connection = Connection(site)
    for _ in range(4):
        say(connection)
        clock.advance(50)
    assert not connection.transport.disconnecting
    clock.advance(11)
    assert connection.transport.disconnecting


def test_a_connection_that_is_to_close_is_closed(site):
    for _ in range(3):
        connection = Connection(site)
        say(connection, request("PUT", "/v1/nodes/a", BODY, Connection="close"))
        assert connection.transport.disconnecting
