# SPDX-License-Identifier: MIT
"""The list of nodes against fake registries on real sockets, with a clock that the tests move."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from smls.directory import RegistryDirectory
from smls.errors import NoLiveNodes, RegistryUnavailable
from smls.merged import FORMER_SECONDS
from smls.remembered import Remembered
from smls.stream import SILENCE_SECONDS
from smls.testing import FakeRegistry, FakeServer, fail, hang
from smls.transport import Transport
from smls.watch import HURRY_SECONDS, OPEN_SECONDS
from smls.wire import SETTLING_SECONDS, ModelRecord, NodeRecord
from tests.client.fleet import stranger
from tests.client.test_client import IMAGE, Fleet


def node(number: int, model: str = "flowers") -> NodeRecord:
    return NodeRecord(f"n{number}", f"192.0.2.{number}:1", models=(ModelRecord(model),))


ONE, TWO, THREE = node(1), node(2), node(3)


class Watching(Fleet):
    def registry(self, *nodes: NodeRecord) -> FakeRegistry:
        registry = self.start(FakeRegistry())
        registry.nodes = list(nodes)
        return registry

    def directory(self, *registries: Any, folder: Path | None = None) -> RegistryDirectory:
        urls = [each if isinstance(each, str) else each.url for each in registries]
        remembered = None if folder is None else Remembered(self.reactor, folder, urls)
        directory = RegistryDirectory(Transport(self.reactor), self.reactor, urls, remembered)
        self.addCleanup(directory.close)
        return directory

    def folder(self) -> Path:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    async def becomes(self, directory: RegistryDirectory, *nodes: NodeRecord) -> None:
        """Waits, without the clock, until these nodes are listed."""
        while await directory.listing(None) != nodes:
            await deferLater(reactor, 0.001)

    async def watched(self, registry: FakeRegistry, watchers: int = 1) -> None:
        """Waits until a registry has so many watchers, while the clock goes on."""
        while len(registry.watchers) != watchers:
            self.clock.advance(0.01)
            await deferLater(reactor, 0.001)


class Listed(Watching):
    async def test_the_first_call_waits_for_the_list_and_others_share_it(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        calls = [Deferred.fromCoroutine(directory.nodes("flowers")) for _ in range(5)]
        assert not calls[0].called
        assert [await call for call in calls] == [(ONE,)] * 5
        assert len(registry.requests) == 1

    async def test_news_come_by_themselves(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        await directory.nodes("flowers")
        registry.tell_delta(TWO, THREE, gone=[ONE.id])
        await self.becomes(directory, TWO, THREE)
        registry.tell(THREE)
        await self.becomes(directory, THREE)
        assert len(registry.requests) == 1

    async def test_a_call_after_the_first_list_never_waits(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        await directory.nodes(None)
        await registry.stop()
        call = Deferred.fromCoroutine(directory.nodes("flowers"))
        assert self.successResultOf(call) == (ONE,)

    async def test_the_tuple_is_the_same_while_it_would_be_equal(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        first = await directory.nodes("flowers", None, None)
        other = node(9, "other")
        registry.tell_delta(other)
        await self.becomes(directory, ONE, other)
        assert await directory.nodes("flowers") is first
        registry.tell_delta(TWO)
        await self.becomes(directory, ONE, TWO, other)
        assert await directory.nodes("flowers") == (ONE, TWO)

    async def test_what_nobody_serves_is_named(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        error = await self.assertFailure(
            Deferred.fromCoroutine(directory.nodes("fish", "3", "canary")), NoLiveNodes
        )
        told = "no live node serves the model 'fish', the version '3', the label 'canary' at"
        assert str(error) == f"{told} {registry.url}"
        assert await directory.listing("fish") == ()

    async def test_a_registry_that_has_just_started_is_given_time(self) -> None:
        registry = self.registry()
        registry.settling = True
        directory = self.directory(registry)
        assert await directory.listing(None) == ()
        call = Deferred.fromCoroutine(directory.nodes("flowers"))
        registry.tell_delta(node(9, "other"))
        await self.becomes(directory, node(9, "other"))
        self.clock.advance(SETTLING_SECONDS - 0.1)
        assert not call.called
        registry.tell_delta(ONE)
        assert await call == (ONE,)

    async def test_a_registry_that_has_just_started_is_given_no_more_time(self) -> None:
        registry = self.registry(node(9, "other"))
        registry.settling = True
        directory = self.directory(registry)
        await directory.listing(None)
        calls = [Deferred.fromCoroutine(directory.nodes("flowers")) for _ in range(2)]
        self.clock.advance(SETTLING_SECONDS)
        for call in (*calls, Deferred.fromCoroutine(directory.nodes("flowers"))):
            self.failureResultOf(call, NoLiveNodes)

    async def test_a_call_that_waits_for_a_registrys_nodes_can_be_given_up(self) -> None:
        registry = self.registry()
        registry.settling = True
        directory = self.directory(registry)
        await directory.listing(None)
        before = self.clock.getDelayedCalls()
        call = Deferred.fromCoroutine(directory.nodes("flowers"))
        call.cancel()
        self.failureResultOf(call, CancelledError)
        assert self.clock.getDelayedCalls() == before

    async def test_an_idle_client_goes_on_watching(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        await directory.nodes(None)
        for number in range(50):
            self.clock.advance(10)
            registry.tell_delta(node(100 + number))
            while len(await directory.listing(None)) < number + 2:
                await deferLater(reactor, 0.001)
        assert len(registry.requests) == 1

    async def test_cancelling_one_call_leaves_the_others(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        first = Deferred.fromCoroutine(directory.nodes(None))
        second = Deferred.fromCoroutine(directory.nodes(None))
        first.cancel()
        await self.assertFailure(first, CancelledError)
        assert await second == (ONE,)

    async def test_close_ends_the_streams_and_leaves_no_timer(self) -> None:
        registry, hanging = self.registry(ONE), self.start(FakeServer(hang))
        directory = self.directory(registry, hanging)
        await directory.nodes(None)
        await directory.close()
        await registry.open_at_most(0)
        await hanging.open_at_most(0)
        assert self.clock.getDelayedCalls() == []


class Broken(Watching):
    async def test_a_stream_that_breaks_is_opened_at_once_and_resumed(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        await directory.nodes(None)
        self.clock.advance(2.0)
        registry.watchers[0].channel.transport.abortConnection()
        asked = await registry.next_request()
        assert asked.getHeader("Last-Event-ID") == "first:1"
        registry.tell_delta(TWO)
        await self.becomes(directory, ONE, TWO)

    async def test_silence_is_a_network_that_went_away(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        await directory.nodes(None)
        self.clock.advance(SILENCE_SECONDS - 0.1)
        await deferLater(reactor, 0.01)
        assert len(registry.requests) == 1
        asked = registry.next_request()
        self.clock.advance(0.1)
        await asked
        assert await directory.nodes(None) == (ONE,)

    async def test_while_no_registry_answers_the_last_list_serves(self) -> None:
        registry = self.registry(ONE)
        directory = self.directory(registry)
        await directory.nodes(None)
        await registry.stop()
        for _ in range(3600):
            self.clock.advance(1.0)
            assert await directory.nodes("flowers") == (ONE,)
        registry.start(reactor)
        registry.restart(TWO)
        await self.watched(registry)
        await self.becomes(directory, ONE, TWO)

    async def test_a_registry_that_restarts_empty_leaves_its_nodes_time(self) -> None:
        registry = self.registry(ONE, TWO)
        directory = self.directory(registry)
        await directory.nodes(None)
        registry.restart()
        await self.watched(registry, 0)
        await self.watched(registry)
        assert await directory.nodes(None) == (ONE, TWO)
        registry.tell_delta(ONE)
        registry.tell_delta(THREE)
        await self.becomes(directory, ONE, TWO, THREE)
        self.clock.advance(FORMER_SECONDS)
        assert await directory.nodes(None) == (ONE, THREE)

    async def test_a_stream_that_lies_is_opened_again(self) -> None:
        for lie in (
            b"event: snapshot\nid: x:1\ndata: {\n\n",
            b"event: snapshot\nid: x\ndata: {}\n\n",
            b"event: snapshot\nid: x:1\ndata: {}\n\n",
            b'event: delta\nid: x:1\ndata: {"revision": 1, "put": [], "gone": []}\n\n',
            b"data: \xff\n\n",
        ):
            registry = self.registry(ONE)
            directory = self.directory(registry)
            await directory.nodes(None)
            registry.send(lie)
            await self.watched(registry, 0)
            await self.watched(registry)
            assert await directory.nodes(None) == (ONE,)

    async def test_a_registry_away_is_tried_where_no_node_is_known(self) -> None:
        registry = self.registry()
        directory = self.directory(registry)
        await self.assertFailure(Deferred.fromCoroutine(directory.nodes(None)), NoLiveNodes)
        await registry.stop()
        while not directory._watches[0].reason.startswith("refused"):
            self.clock.advance(0.05)
            await deferLater(reactor, 0.001)
        registry.start(reactor)
        registry.tell(ONE)
        self.clock.advance(HURRY_SECONDS)
        assert await directory.nodes(None) == (ONE,)


class Several(Watching):
    async def test_their_lists_are_merged(self) -> None:
        a, b = self.registry(ONE), self.registry(TWO)
        directory = self.directory(a, b, a)
        await directory.nodes(None)
        await self.becomes(directory, ONE, TWO)
        a.tell(THREE)
        await self.becomes(directory, TWO, THREE)

    async def test_any_that_answers_is_enough(self) -> None:
        lame, hanging = self.start(FakeServer(fail("overloaded"))), FakeServer(hang)
        self.start(hanging)
        directory = self.directory(f"http://{self.gone()}", lame, hanging, self.registry(ONE))
        assert await directory.nodes(None) == (ONE,)

    async def test_one_that_dies_takes_no_node_along_that_another_knows(self) -> None:
        a, b = self.registry(ONE, TWO), self.registry(ONE)
        directory = self.directory(a, b)
        await self.becomes(directory, ONE, TWO)
        while len(directory._merged.live) < 2:
            await deferLater(reactor, 0.001)
        await a.stop()
        while len(directory._merged.live) > 1:
            await deferLater(reactor, 0.001)
        assert await directory.nodes(None) == (ONE, TWO)
        b.tell_delta(gone=[ONE.id])
        await self.becomes(directory, TWO)
        self.clock.advance(FORMER_SECONDS)
        assert await directory.listing(None) == ()

    async def test_where_the_first_list_has_no_node_the_others_are_waited_for(self) -> None:
        slow = self.registry(ONE)
        serve, held = slow.behaviour, []
        slow.behaviour = held.append
        asked = slow.next_request()
        call = Deferred.fromCoroutine(self.directory(self.registry(), slow).nodes(None))
        serve(await asked)
        assert await call == (ONE,)


class Never(Watching):
    async def test_no_registry_ever_answered(self) -> None:
        gone, odd = f"http://{self.gone()}", self.start(FakeServer(stranger))
        old = self.start(FakeServer(fail("not_found")))
        hanging = self.start(FakeServer(hang))
        asked = hanging.next_request()
        directory = self.directory(gone, odd, old, hanging)
        call = Deferred.fromCoroutine(directory.nodes(None))
        await asked
        while sum(watch.settled for watch in directory._watches) < 2:
            await deferLater(reactor, 0.001)
        assert not call.called
        self.clock.advance(OPEN_SECONDS)
        error = await self.assertFailure(call, RegistryUnavailable)
        assert f"{gone}: refused the connection" in str(error)
        assert f"{odd.url}: its connection was closed" in str(error)
        assert f"{old.url}: knows no /v1/watch: it is no registry, or older" in str(error)
        assert f"{hanging.url}: did not answer within 2 s" in str(error)

    async def test_a_registry_that_tells_no_list_is_given_up(self) -> None:
        def empty(request: Any) -> None:
            request.write(b"")

        mute = self.start(FakeServer(empty))
        asked = mute.next_request()
        directory = self.directory(mute)
        call = Deferred.fromCoroutine(directory.nodes(None))
        await asked
        while not call.called:
            self.clock.advance(0.1)
            await deferLater(reactor, 0.001)
        error = await self.assertFailure(call, RegistryUnavailable)
        assert "said nothing for 2 s" in str(error)


class Remembering(Watching):
    async def kept(self, *nodes: NodeRecord) -> tuple[FakeRegistry, Path]:
        """A registry, and a folder with what it told a client that is gone."""
        registry, folder = self.registry(*nodes), self.folder()
        directory = self.directory(registry, folder=folder)
        await directory.nodes(None)
        await directory.close()
        return registry, folder

    async def test_a_client_that_starts_while_every_registry_is_dead_works(self) -> None:
        registry, folder = await self.kept(ONE)
        await registry.stop()
        directory = self.directory(registry.url, folder=folder)
        assert await directory.nodes("flowers") == (ONE,)
        self.clock.advance(3600)
        assert await directory.nodes("flowers") == (ONE,)

    async def test_a_registry_that_lives_corrects_the_list_before_the_first_call(self) -> None:
        registry, folder = await self.kept(ONE)
        registry.tell(TWO)
        directory = self.directory(registry, folder=folder)
        assert await directory.nodes(None) == (TWO,)
        assert registry.requests[-1].getHeader("Last-Event-ID") == "first:1"

    async def test_nothing_new_is_told_by_a_word(self) -> None:
        registry, folder = await self.kept(ONE)
        directory = self.directory(registry, folder=folder)
        assert await directory.nodes(None) == (ONE,)
        assert directory._merged.live == {registry.url}

    async def test_a_client_classifies_from_its_cache(self) -> None:
        registry, (_,) = self.fleet("a")
        folder = self.folder()
        async with self.client(registry.url, cache=folder) as client:
            await client.classify(IMAGE)
        await registry.stop()
        assert (await self.client(registry.url, cache=folder).classify(IMAGE)).node == "a"
        without = self.client(registry.url).classify(IMAGE)
        await self.assertFailure(without, RegistryUnavailable)

    async def test_the_default_folder_is_the_users(self) -> None:
        registry, (_,) = self.fleet("a")
        folder = self.folder()
        self.patch(__import__("os"), "environ", {"XDG_CACHE_HOME": str(folder)})
        async with self.client(registry.url, cache=True) as client:
            await client.classify(IMAGE)
        (file,) = folder.glob("smls/nodes-*.json")
        assert "a" in file.read_text()
