# SPDX-License-Identifier: MIT
import shutil
import socket
import subprocess
import sys

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

import smls.request
from smls.request import LINGER_SECONDS
from smls.site import CLOSE_SECONDS, IDLE_SECONDS, LimitedSite
from smls.web import Answer, error_answer, json_answer
from tests.memory import Connection, ask, parse, request

LIMIT = 1000
BIG = 8_000_000


class Echo(Resource):
    """Answers with the length of the body; ``/slow`` when it is told to, ``/broken`` never."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.slow = []

    def render(self, request):
        if request.path == b"/slow":
            self.slow.append(request)
            return NOT_DONE_YET
        if request.path == b"/broken":
            raise RuntimeError("broken")
        answer = {"length": len(request.body()), "target": request.head().target}
        return json_answer(answer).write_to(request)


def elsewhere(head):
    """A screen that sends uploads for ``/moved`` on, and knows no ``/nothing``."""
    if head.path == "/moved":
        return Answer(307, b"", headers=(("Location", f"http://node:8501{head.target}"),))
    if head.path == "/nothing":
        return error_answer("not_found", "there is nothing here")
    return None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def site(clock):
    return LimitedSite(Echo(), clock, max_body=LIMIT, screen=elsewhere)


def test_a_body_within_the_limit_is_read(site):
    assert ask(site, "POST", "/", b"x" * LIMIT).json["length"] == LIMIT


def test_a_longer_body_is_refused_from_its_head(site):
    connection = Connection(site)
    reply = parse(connection.send(request("POST", "/", Content_Length=str(LIMIT + 1))))
    assert reply.status == 413
    assert reply.code == "too_large"
    assert reply.headers["Connection"] == "close"
    assert connection.transport.ended == "half"


def test_a_chunked_body_is_refused_once_it_is_too_long(site):
    connection = Connection(site)
    connection.send(request("POST", "/", Transfer_Encoding="chunked"))
    chunk = b"190\r\n" + b"x" * 400 + b"\r\n"
    assert connection.send(chunk * 2) == b""
    assert parse(connection.send(chunk)).status == 413
    sent = connection.transport.value()
    assert connection.send(chunk * 100 + b"0\r\n\r\n") == sent
    assert connection.transport.ended == "lost"


def test_a_chunked_body_within_the_limit_is_read(site):
    connection = Connection(site)
    connection.send(request("POST", "/", Transfer_Encoding="chunked"))
    assert parse(connection.send(b"3\r\nabc\r\n0\r\n\r\n")).json["length"] == 3


@pytest.mark.parametrize(("target", "status"), [("/moved", 307), ("/nothing", 404), ("/", 413)])
def test_who_expects_100_gets_the_answer_alone(site, target, status):
    raw = request("POST", target, Content_Length=str(BIG), Expect="100-continue")
    assert Connection(site).send(raw).startswith(b"HTTP/1.1 %d " % status)


def test_who_may_send_gets_100_first(site):
    connection = Connection(site)
    head = request("POST", "/", Content_Length="3", Expect="100-continue")
    assert connection.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    answer = connection.send(b"abc").split(b"\r\n\r\n", 1)[1]
    assert parse(answer).json["length"] == 3


def crowded(site_clock, max_arriving):
    """A site, and a function that begins an upload of ``LIMIT`` bytes with some of them."""
    site = LimitedSite(
        Echo(), site_clock, max_body=LIMIT, screen=elsewhere, max_arriving=max_arriving
    )

    def begin(sent):
        connection = Connection(site)
        connection.send(request("POST", "/", Content_Length=str(LIMIT)) + b"x" * sent)
        return connection

    return site, begin


def test_who_began_first_makes_room_where_many_are_half_received(clock):
    site, begin = crowded(clock, 3 * LIMIT)
    uploads = [begin(LIMIT - 100) for _ in range(3)]
    late = begin(LIMIT - 100)
    reply = parse(uploads[0].transport.value())
    assert reply.status == 503
    assert reply.code == "overloaded"
    assert reply.headers["Retry-After"] == "2"
    assert f"{3 * LIMIT} bytes together" in reply.json["error"]["message"]
    assert uploads[0].transport.ended == "half"
    for upload in (*uploads[1:], late):
        assert parse(upload.send(b"x" * 100)).json["length"] == LIMIT
    assert site.arriving.held == 0


def test_what_is_refused_to_make_room_is_not_held(clock):
    site, begin = crowded(clock, LIMIT)
    first = begin(LIMIT - 100)
    begin(LIMIT - 100)
    first.send(b"x" * 100)
    assert site.arriving.held == LIMIT - 100
    assert len(site.in_flight) == 1


def test_uploads_that_are_whole_or_gone_are_in_nobodys_way(clock):
    site, begin = crowded(clock, LIMIT)
    for _ in range(3):
        assert parse(begin(LIMIT).transport.value()).json["length"] == LIMIT
    for _ in range(3):
        begin(LIMIT - 1).channel.connectionLost(None)
    assert site.arriving.held == 0
    assert parse(begin(LIMIT).transport.value()).json["length"] == LIMIT


def test_one_upload_may_be_as_large_as_is_allowed(clock):
    _, begin = crowded(clock, LIMIT // 10)
    assert parse(begin(LIMIT).transport.value()).json["length"] == LIMIT


def test_a_redirect_keeps_path_and_query(site):
    reply = ask(site, "POST", "/moved?a=b%20c&d=%C3%A4&e", b"x")
    assert reply.headers["Location"] == "http://node:8501/moved?a=b%20c&d=%C3%A4&e"


def test_a_small_body_with_an_early_answer_ends_the_connection(site, clock):
    connection = Connection(site)
    reply = parse(connection.send(request("POST", "/nothing", b"x")))
    assert reply.code == "not_found"
    assert connection.transport.ended == "lost"
    connection.channel.connectionLost(None)
    assert clock.getDelayedCalls() == []


def test_what_follows_a_refused_body_is_not_served(site):
    connection = Connection(site)
    raw = request("POST", "/nothing", b"x") + request("GET", "/")
    assert connection.send(raw).count(b"HTTP/1.1 ") == 1


def test_a_refused_upload_is_cut_after_the_linger(site, clock):
    connection = Connection(site)
    connection.send(request("POST", "/", Content_Length=str(BIG)))
    connection.send(b"x" * 10_000)
    clock.advance(LINGER_SECONDS - 0.01)
    assert connection.transport.ended == "half"
    clock.advance(0.01)
    assert connection.transport.ended == "aborted"


def test_a_client_that_leaves_ends_the_linger(site, clock):
    connection = Connection(site)
    connection.send(request("POST", "/", Content_Length=str(BIG)))
    connection.channel.connectionLost(None)
    assert clock.getDelayedCalls() == []
    assert not site.channels


def targets(connection):
    """What was answered by now, one request after the other."""
    replies = connection.transport.value().split(b"HTTP/1.1 ")[1:]
    return [parse(b"HTTP/1.1 " + raw).json["target"] for raw in replies]


def test_a_connection_serves_one_request_a_turn(site, clock):
    connection = Connection(site)
    connection.send(request("POST", "/a", b"xy") + request("GET", "/b") + request("GET", "/c")[:9])
    assert targets(connection) == ["/a"]
    clock.advance(0)
    assert targets(connection) == ["/a", "/b"]
    assert connection.transport.producerState == "producing"
    connection.send(request("GET", "/c")[9:] + request("POST", "/d", b"x"))
    assert connection.transport.producerState == "paused"
    clock.advance(0)
    assert targets(connection) == ["/a", "/b", "/c", "/d"]
    assert not connection.transport.ended


def test_who_reads_no_answers_gets_no_more(site, clock):
    connection = Connection(site)
    connection.send(request("GET", "/slow") + request("GET", "/b") * 3)
    # The transport says so of a full buffer, which an answer that is being written fills.
    connection.transport.producer.pauseProducing()
    (slow,) = site.resource.slow
    slow.write(json_answer({"target": "/slow"}).write_to(slow))
    slow.finish()
    clock.advance(0)
    assert targets(connection) == ["/slow"]
    assert connection.transport.producerState == "paused"
    connection.transport.producer.resumeProducing()
    for _ in range(3):
        clock.advance(0)
    assert targets(connection) == ["/slow", "/b", "/b", "/b"]
    assert connection.transport.producerState == "producing"


def test_no_more_is_read_before_what_was_sent_ahead_is_used_up(site, clock):
    connection = Connection(site)
    ahead = request("POST", "/slow", b"x" * 900)
    connection.send(ahead * 60)
    connection.send(ahead)
    for left in range(60, 0, -1):
        assert connection.transport.producerState == "paused" or left * len(ahead) <= 1 << 14
        site.resource.slow.pop().finish()
        clock.advance(0)
    assert connection.transport.producerState == "producing"
    assert len(site.resource.slow) == 1


def test_who_reads_no_answers_is_cut_in_the_end(site, clock):
    connection = Connection(site)
    connection.send(request("GET", "/slow") + request("GET", "/b") * 3)
    connection.transport.producer.pauseProducing()
    site.resource.slow[0].finish()
    clock.advance(IDLE_SECONDS)
    assert connection.transport.ended == "lost"
    clock.advance(connection.channel.abortTimeout)
    assert connection.transport.ended == "aborted"


def test_who_leaves_between_two_requests_leaves_nothing(site, clock):
    connection = Connection(site)
    connection.send(request("GET", "/a") + request("GET", "/b"))
    connection.channel.connectionLost(None)
    assert clock.getDelayedCalls() == []
    assert targets(connection) == ["/a"]


@pytest.mark.parametrize("cut", range(1, 60))
def test_who_leaves_within_a_request_leaves_nothing(site, clock, cut):
    connection = Connection(site)
    connection.send(request("POST", "/", b"x" * 20)[:cut])
    connection.channel.connectionLost(None)
    assert (clock.getDelayedCalls(), site.channels, site.in_flight) == ([], set(), set())


def test_a_body_that_comes_too_slowly_is_given_up(site, clock):
    connection = Connection(site)
    connection.send(request("POST", "/", Content_Length=str(LIMIT)))
    for _ in range(IDLE_SECONDS):
        assert connection.transport.value() == b""
        connection.send(b"x")
        clock.advance(1)
    reply = parse(connection.transport.value())
    assert (reply.status, reply.code) == (504, "deadline_exceeded")
    assert (connection.transport.ended, site.in_flight) == ("half", set())
    clock.advance(LINGER_SECONDS)
    assert connection.transport.ended == "aborted"


def test_a_head_that_comes_too_slowly_is_given_up(site, clock):
    connection = Connection(site)
    connection.send(b"GET / HTTP/1.1\r\n")
    for _ in range(IDLE_SECONDS):
        assert not connection.transport.ended
        connection.send(b"X: y\r\n")
        clock.advance(1)
    assert connection.transport.ended == "lost"


def test_an_idle_connection_has_its_whole_time_for_the_next_request(site, clock):
    connection = Connection(site)
    connection.send(request("GET", "/a"))
    clock.advance(IDLE_SECONDS - 1)
    connection.send(request("POST", "/b", Content_Length="2"))
    clock.advance(IDLE_SECONDS - 1)
    connection.send(b"xy")
    assert targets(connection) == ["/a", "/b"]


def test_a_refusal_waits_for_the_answer_before_it(site, clock):
    connection = Connection(site)
    echo = site.resource
    connection.send(request("GET", "/slow"))
    assert connection.send(request("POST", "/moved", Content_Length=str(BIG))) == b""
    (slow,) = echo.slow
    slow.write(b"done")
    slow.finish()
    clock.advance(0)
    first, second = connection.transport.value().split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200")
    assert second.startswith(b"307")


def test_head_has_no_body_however_early(site):
    reply = ask(site, "HEAD", "/nothing", b"x")
    assert reply.status == 404
    assert reply.body == b""
    assert int(reply.headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\n\r\n",
        b"POST /%ff HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    ],
)
def test_what_is_no_request_is_told_so_in_json(site, raw):
    connection = Connection(site)
    reply = parse(connection.send(raw))
    assert reply.status == 400
    assert reply.code == "bad_request"
    assert connection.transport.ended


def test_a_fault_in_a_resource_is_a_json_500(site, events):
    reply = ask(site, "GET", "/broken")
    assert reply.status == 500
    assert reply.code == "internal"
    (fault,) = [event for event in events if "fault_id" in event]
    assert fault["fault_id"] in reply.json["error"]["message"]
    assert fault["log_failure"].check(RuntimeError)


def test_each_request_is_one_line_with_fields(site, events):
    ask(site, "GET", "/a?b=c")
    ask(site, "POST", "/nothing", b"x")
    lines = [event for event in events if event.get("log_namespace") == "smls.requests"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/a?b=c", 200),
        ("POST", "/nothing", 404),
    ]
    assert all(line["peer"] == "192.0.2.7" and line["milliseconds"] >= 0 for line in lines)


class CloseTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.site = LimitedSite(Echo(), self.clock, max_body=LIMIT, screen=elsewhere)

    def test_closing_without_connections_is_done_at_once(self):
        self.successResultOf(self.site.close_connections())

    def test_closing_waits_until_the_last_is_gone(self):
        connections = [Connection(self.site), Connection(self.site)]
        closed = self.site.close_connections()
        for connection in connections:
            assert connection.transport.ended == "lost"
            self.assertNoResult(closed)
            connection.channel.connectionLost(None)
        self.successResultOf(closed)
        assert self.clock.getDelayedCalls() == []

    def test_closing_cuts_what_does_not_end(self):
        connection = Connection(self.site)
        self.site.close_connections()
        self.clock.advance(CLOSE_SECONDS)
        assert connection.transport.ended == "aborted"


def upload(port, head, piece, count):
    """What a client reads that sends all it can before it reads."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(30)
        sent = 0
        try:
            client.sendall(head)
            for _ in range(count):
                client.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        answer = b""
        try:
            while data := client.recv(65536):
                answer += data
        except ConnectionError:
            pass
        return answer, sent


class SocketTests(TestCase):
    """Clients that block, on real sockets."""

    timeout = 60

    def setUp(self):
        self.site = LimitedSite(Echo(), reactor, max_body=LIMIT, screen=elsewhere)
        listening = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = listening.getHost().port
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.site.close_connections)

    async def test_a_client_in_mid_upload_reads_the_answer(self):
        for target, status in (("/", 413), ("/moved", 307), ("/nothing", 404)):
            head = request("POST", target, Content_Length=str(BIG))
            answer, sent = await deferToThread(upload, self.port, head, b"x" * 100_000, 80)
            assert parse(answer).status == status
            assert sent == BIG

    async def test_a_client_in_mid_chunked_upload_reads_the_answer(self):
        head = request("POST", "/", Transfer_Encoding="chunked")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        answer, _ = await deferToThread(upload, self.port, head, chunk, 100)
        assert parse(answer).status == 413

    async def test_a_client_that_never_stops_is_cut(self):
        self.patch(smls.request, "LINGER_SECONDS", 0.05)
        head = request("POST", "/", Transfer_Encoding="chunked")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        await deferToThread(upload, self.port, head, chunk, 10**9)

    async def test_a_client_that_stops_sending_is_told_the_end(self):
        head = request("POST", "/", Content_Length=str(BIG))
        answer, _ = await deferToThread(upload, self.port, head, b"x", 1)
        assert parse(answer).status == 413

    async def test_curl_reads_the_refusal_of_a_large_form(self):
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("curl is not installed")
        out, _, status = await getProcessOutputAndValue(
            curl,
            [
                "-sS",
                "-H",
                "Expect:",
                "-F",
                f"data=@{__file__}",
                "-w",
                "%{http_code}",
                f"http://127.0.0.1:{self.port}/",
            ],
        )
        assert status == 0
        assert out.endswith(b"413")


def test_importing_installs_no_reactor():
    code = "import smls.site, smls.web, sys; assert 'twisted.internet.reactor' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
