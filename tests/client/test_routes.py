# SPDX-License-Identifier: MIT
"""Klein applications as resources, over HTTP in memory."""

import pytest
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from smls.errors import BadImage, Overloaded
from smls.routes import Routes
from smls.site import LimitedSite
from tests.garbage import left_by
from tests.memory import Connection, ask, parse, request

LATER = request("GET", "/later")


class BoundApp:
    app = Klein()

    @app.route("/deep/image")
    @app.route("/image", methods=["POST", "GET"])
    def image(self, request):
        raise BadImage("no image")


def unbound(later=None):
    app = Klein()

    @app.route("/deep/image")
    @app.route("/image", methods=["POST", "GET"])
    def image(request):
        raise BadImage("no image")

    @app.route("/full")
    def full(request):
        raise Overloaded("full", retry_after_seconds=1.2)

    @app.route("/fault")
    def fault(request):
        raise RuntimeError("secret")

    @app.route("/called/<name>")
    async def called(request, name):
        return f"It is {name}".encode()

    @app.route("/written")
    def written(request):
        request.write(b"by itself")

    @app.route("/later")
    def answered(request):
        return later

    return app


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def later():
    """What ``/later`` answers when it fires."""
    return Deferred()


@pytest.fixture
def site(clock, later):
    return served(unbound(later), clock)


def served(app, clock):
    return LimitedSite(Routes(app), clock, max_body=1000, screen=lambda head: None)


def leave(connection):
    connection.channel.connectionLost(Failure(ConnectionDone()))


@pytest.mark.parametrize("app", [BoundApp().app, unbound()], ids=["bound", "unbound"])
def test_errors_are_answered_as_json(clock, app):
    site = served(app, clock)
    reply = ask(site, "POST", "/image", b"x")
    assert (reply.status, reply.code) == (415, "bad_image")
    assert ask(site, "HEAD", "/image").body == b""
    assert ask(site, "GET", "/nothing").code == "not_found"
    assert ask(site, "GET", "/deep//image").code == "not_found"
    refused = ask(site, "PUT", "/image", b"x")
    assert refused.status == 405
    assert refused.headers["Allow"] == "GET, HEAD, POST"


def test_an_overloaded_application_says_when_to_come_back(site):
    reply = ask(site, "GET", "/full")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "\xff", ""])
def test_an_odd_host_header_harms_nobody(site, host):
    raw = b"GET /image HTTP/1.1\r\nHost: " + host.encode("latin-1") + b"\r\n\r\n"
    assert parse(Connection(site).send(raw)).status == 415


def test_a_fault_of_an_application_shows_nothing(site, events):
    reply = ask(site, "GET", "/fault")
    assert reply.code == "internal"
    assert b"secret" not in reply.body
    assert [event for event in events if "fault_id" in event]


def test_a_path_brings_what_it_names_each_time(site):
    for name in ("Ada", "Bob", "Ada"):
        assert f"It is {name}".encode() in ask(site, "GET", f"/called/{name}").body
    assert "It is Müller".encode() in ask(site, "GET", "/called/M%C3%BCller?x=1").body


def test_a_body_may_be_written_by_the_function_itself(site):
    assert b"by itself" in ask(site, "GET", "/written").body


def test_an_answer_may_come_later(site, later):
    connection = Connection(site)
    assert connection.send(LATER) == b""
    later.callback(b"now")
    assert b"now" in parse(connection.transport.value()).body
    assert not site.in_flight


def test_what_comes_later_is_cancelled_where_its_client_leaves(clock, events):
    cancelled = []
    connection = Connection(served(unbound(Deferred(cancelled.append)), clock))
    connection.send(LATER)
    assert not cancelled
    leave(connection)
    assert len(cancelled) == 1
    assert connection.transport.value() == b""
    assert not [event for event in events if "log_failure" in event]


def test_what_fails_when_its_client_has_left_is_told_to_the_log(clock, events):
    site = served(unbound(Deferred(lambda later: later.errback(RuntimeError("late")))), clock)
    connection = Connection(site)
    connection.send(LATER)
    leave(connection)
    (told,) = [event["log_failure"].value for event in events if "log_failure" in event]
    assert str(told) == "late"


def test_an_answered_request_leaves_nothing_to_the_garbage_collector(site):
    connection = Connection(site)

    def work():
        for path in ("/called/Ada", "/written", "/full"):
            assert connection.send(request("GET", path))

    work()
    assert left_by(work) == []
