# SPDX-License-Identifier: MIT
import json
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from smls.address import Advertise, Reached
from smls.lease import (
    ATTEMPT_SECONDS,
    REFUSED_SECONDS,
    WITHDRAW_SECONDS,
    Announcer,
    renewal_delay,
)
from smls.stream import MOST_RETRY_SECONDS, SILENCE_SECONDS
from smls.wire import NodeRecord, node_from_json

URL = "http://registry:12480"
OTHER = "http://other:12480"


@given(st.floats(0.3, 1000), st.integers(0, 2**32))
def test_a_lease_is_renewed_each_third_of_its_ttl(ttl, seed):
    delay = renewal_delay(ttl, Random(seed))
    assert delay == 0.1 or 0.9 * ttl / 3 <= delay <= 1.1 * ttl / 3 + 1e-9


class FakeRegistry(Resource):
    """Answers as it is told, and notes what was asked."""

    isLeaf = True

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.asked = []
        self.status = 200
        self.answer = {"id": "a", "ttl_seconds": 9, "revision": 1}
        self.held = []
        self.holds = 200
        self.let_go = []

    def render(self, request):
        if request.path.endswith(b"/lease"):
            return self.hold(request)
        body = json.loads(request.content.read() or b"null")
        self.asked.append((self.clock.seconds(), request.method.decode(), request.path, body))
        request.setResponseCode(self.status)
        return json.dumps(self.answer).encode()

    def hold(self, request):
        request.setResponseCode(self.holds)
        if self.holds != 200:
            return b""
        self.held.append(request)
        closed = request.notifyFinish()
        closed.addBoth(lambda _: self.let_go.append((self.clock.seconds(), len(self.asked))))
        closed.addBoth(lambda _: self.held.remove(request))
        request.write(b": heartbeat\n\n")
        return NOT_DONE_YET

    def times(self, method="PUT"):
        return [time for time, asked, _, _ in self.asked if asked == method]


class Switch:
    """An HTTP client that may be told to fail, or to hang."""

    def __init__(self, stub):
        self.stub = stub
        self.failure = None
        self.hanging = None
        self.urls = []

    def request(self, method, url, **options):
        if not url.endswith("/lease"):
            self.urls.append(url)
        if self.hanging is not None:
            self.hanging.append(Deferred())
            return self.hanging[-1]
        if self.failure is not None:
            return fail(self.failure)
        return self.stub.request(method, url, **options)


class AnnouncerTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.registry = FakeRegistry(self.clock)
        self.stub = StubTreq(self.registry)
        self.http = Switch(self.stub)
        self.zone = "west"
        self.reached = lambda: succeed(Reached("192.0.2.7"))
        self.events = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def announcer(self, *urls, **settings):
        return Announcer(
            self.clock,
            self.http,
            urls or [URL],
            lambda address: NodeRecord("a", address, zone=self.zone),
            Advertise(8501, **settings),
            Random(7),
            reach=lambda host, port: self.reached(),
        )

    def told(self, who="smls.lease.Announcer"):
        return [event for event in self.events if event.get("log_namespace") == who]

    def heartbeat(self, seconds, times=1):
        """Lets time pass in which the registry keeps its streams alive."""
        for _ in range(times):
            self.clock.advance(seconds)
            for request in self.registry.held:
                request.write(b": heartbeat\n\n")
            self.stub.flush()

    def test_the_record_is_put_under_its_id(self):
        announcer = self.announcer(f"{URL}/")
        announcer.start()
        _, method, path, body = self.registry.asked[0]
        assert (method, path) == ("PUT", b"/v1/nodes/a")
        assert node_from_json(body) == NodeRecord("a", "192.0.2.7:8501", zone="west")
        assert announcer.announced == [URL]

    def test_nothing_is_looked_up_for_a_fixed_address(self):
        self.reached = lambda: fail(AssertionError("looked up"))
        self.announcer(explicit="gpu1").start()
        assert self.registry.asked[0][3]["address"] == "gpu1:8501"

    def test_it_is_renewed_within_a_third_of_the_ttl(self):
        self.announcer().start()
        self.heartbeat(0.1, 1000)
        times = self.registry.times()
        gaps = [after - before for before, after in pairwise(times)]
        assert 29 <= len(times) <= 38
        assert all(2.6 <= gap <= 3.5 for gap in gaps)
        assert len({round(gap, 1) for gap in gaps}) > 1

    def test_an_update_is_sent_at_once(self):
        announcer = self.announcer()
        announcer.start()
        self.zone = "east"
        announcer.update()
        assert [body["zone"] for _, _, _, body in self.registry.asked] == ["west", "east"]
        self.clock.advance(3.5)
        assert len(self.registry.asked) == 3

    def test_an_update_during_an_announcement_follows_it(self):
        looked_up = Deferred()
        self.reached = lambda: looked_up
        announcer = self.announcer()
        announcer.start()
        announcer.update()
        self.reached = lambda: succeed(Reached("192.0.2.7"))
        looked_up.callback(Reached("192.0.2.7"))
        assert len(self.registry.asked) == 2

    def test_a_registry_that_is_away_is_tried_until_it_is_back(self):
        self.http.failure = ConnectionRefusedError()
        announcer = self.announcer()
        announcer.start()
        self.clock.pump([0.25] * 240)
        assert 40 <= len(self.http.urls) <= 80
        assert announcer.announced == []
        self.http.failure = None
        self.clock.advance(MOST_RETRY_SECONDS)
        assert announcer.announced == [URL]
        lost, back = self.told()
        assert (lost["endpoint"], lost["attempt"]) == (URL, 1)
        assert 0.05 <= lost["delay"] <= 0.1
        assert back["endpoint"] == URL
        assert back["attempt"] >= 40

    def test_a_lookup_that_fails_is_tried_again(self):
        self.reached = lambda: fail(OSError("no such name"))
        self.announcer().start()
        self.reached = lambda: succeed(Reached("192.0.2.7"))
        self.clock.advance(1)
        assert len(self.registry.asked) == 1
        assert "no such name" in self.told()[0]["reason"]

    def test_an_attempt_that_hangs_is_given_up(self):
        self.http.hanging = []
        announcer = self.announcer()
        announcer.start()
        self.clock.advance(ATTEMPT_SECONDS)
        assert self.http.hanging[0].called
        self.http.hanging = None
        self.clock.advance(1)
        assert announcer.announced == [URL]

    def test_a_refusal_is_told_and_rarely_retried(self):
        self.registry.status = 400
        self.registry.answer = {"error": {"code": "bad_record", "message": "zone: got 7"}}
        self.announcer().start()
        self.clock.pump([1] * 60)
        assert len(self.registry.times()) in (2, 3)
        (refused,) = self.told()
        assert "zone: got 7" in refused["reason"]
        assert refused["delay"] >= 0.9 * REFUSED_SECONDS

    def test_what_is_no_registry_is_no_success(self):
        for status, answer in [
            (200, []),
            (200, {"ttl_seconds": -1}),
            (200, {"ttl_seconds": True}),
            (200, {"ttl_seconds": 1e999}),
            (500, {}),
            (302, {}),
        ]:
            self.registry.status, self.registry.answer = status, answer
            announcer = self.announcer()
            announcer.start()
            assert announcer.announced == []

    def test_each_registry_has_its_own_lease(self):
        announcer = self.announcer(URL, OTHER)
        announcer.start()
        assert sorted(self.http.urls) == [f"{OTHER}/v1/nodes/a", f"{URL}/v1/nodes/a"]
        assert sorted(announcer.announced) == [OTHER, URL]

    def test_registries_come_and_go_but_configured_ones_stay(self):
        announcer = self.announcer(URL)
        announcer.start()
        announcer.add(OTHER)
        announcer.add(f"{OTHER}/")
        announcer.add(URL)
        assert len(self.registry.asked) == 2
        announcer.remove(OTHER)
        announcer.remove(URL)
        announcer.remove("http://unknown:1")
        self.clock.advance(3.5)
        assert self.http.urls[2:] == [f"{URL}/v1/nodes/a"]

    def test_withdrawing_tells_each_registry_and_stops(self):
        announcer = self.announcer(URL, OTHER)
        announcer.start()
        self.successResultOf(announcer.withdraw())
        assert len(self.registry.times("DELETE")) == 2
        assert self.clock.getDelayedCalls() == []

    def test_withdrawing_does_not_ask_a_registry_that_knows_nothing(self):
        self.http.failure = ConnectionRefusedError()
        announcer = self.announcer()
        announcer.start()
        self.successResultOf(announcer.withdraw())
        assert len(self.http.urls) == 1
        assert self.clock.getDelayedCalls() == []

    def test_withdrawing_tells_a_registry_whose_answer_is_not_there_yet(self):
        self.http.hanging = []
        announcer = self.announcer()
        announcer.start()
        self.http.hanging = None
        self.successResultOf(announcer.withdraw())
        assert len(self.registry.times("DELETE")) == 1

    def test_withdrawing_stops_an_announcement_that_ends_in_any_error(self):
        self.http.hanging = []
        announcer = self.announcer()
        announcer.start()
        self.http.hanging[0]._canceller = lambda hanging: hanging.errback(ValueError())
        self.http.hanging = None
        self.successResultOf(announcer.withdraw())
        assert self.clock.getDelayedCalls() == []
        assert self.told() == []

    def test_withdrawing_waits_two_seconds_and_never_fails(self):
        announcer = self.announcer()
        announcer.start()
        self.http.hanging = []
        withdrawn = announcer.withdraw()
        self.assertNoResult(withdrawn)
        self.clock.advance(WITHDRAW_SECONDS)
        self.successResultOf(withdrawn)

    def test_withdrawing_outlives_a_failure(self):
        announcer = self.announcer()
        announcer.start()
        self.http.failure = ConnectionRefusedError()
        self.successResultOf(announcer.withdraw())

    def test_withdrawing_before_the_start_does_nothing(self):
        self.successResultOf(self.announcer().withdraw())
        assert self.http.urls == []

    def test_a_registry_may_say_when_to_renew(self):
        self.registry.answer["renew_seconds"] = 20
        self.announcer().start()
        self.heartbeat(1.0, 100)
        assert self.registry.times() == [0, 20, 40, 60, 80, 100]

    def test_one_stream_is_held_through_all_renewals(self):
        self.announcer().start()
        self.heartbeat(1.0, 100)
        assert len(self.registry.times()) > 25
        assert len(self.registry.held) == 1
        assert self.registry.let_go == []

    def test_a_stream_that_ends_is_an_announcement_at_once(self):
        self.announcer().start()
        self.heartbeat(1.5)
        self.registry.held[0].finish()
        self.stub.flush()
        assert self.registry.times() == [0, 1.5]
        assert len(self.registry.held) == 1

    def test_a_registry_that_drops_each_stream_is_not_flooded(self):
        self.announcer().start()
        for _ in range(400):
            for request in list(self.registry.held):
                request.finish()
            self.stub.flush()
            self.clock.advance(0.05)
        # 20 s: three times a TTL's renewals, and a try each second or so.
        assert 15 <= len(self.registry.times()) <= 35

    def test_a_stream_that_falls_silent_is_opened_again(self):
        self.announcer().start()
        self.heartbeat(1.0, 5)
        self.clock.advance(SILENCE_SECONDS - 0.1)
        assert self.registry.let_go == []
        self.clock.advance(0.1)
        self.stub.flush()
        assert [time for time, _ in self.registry.let_go] == [5 + SILENCE_SECONDS]
        assert self.registry.times()[-1] == 5 + SILENCE_SECONDS
        assert len(self.registry.held) == 1

    def test_a_registry_that_holds_no_leases_is_told_of_once(self):
        self.registry.holds = 404
        announcer = self.announcer()
        announcer.start()
        self.clock.pump([0.1] * 200)
        assert announcer.announced == [URL]
        (told,) = self.told("smls.hold.Hold")
        assert "404" in told["reason"]
        assert told["endpoint"] == URL
        self.registry.holds = 200
        self.clock.advance(MOST_RETRY_SECONDS)
        assert len(self.registry.held) == 1

    def test_withdrawing_tells_the_registry_before_the_stream_is_let_go(self):
        announcer = self.announcer()
        announcer.start()
        self.successResultOf(announcer.withdraw())
        self.stub.flush()
        assert [method for _, method, _, _ in self.registry.asked] == ["PUT", "DELETE"]
        assert self.registry.let_go == [(0, 2)]
        assert self.clock.getDelayedCalls() == []

    def test_a_registry_that_is_forgotten_loses_its_stream(self):
        announcer = self.announcer(URL)
        announcer.start()
        announcer.add(OTHER)
        assert len(self.registry.held) == 2
        announcer.remove(OTHER)
        self.stub.flush()
        assert len(self.registry.held) == 1
        assert self.registry.times("DELETE") == []
