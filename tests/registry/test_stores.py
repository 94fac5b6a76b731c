# SPDX-License-Identifier: MIT
"""What holds for every store: the same tests for memory and for a real etcd.

Several registries' stores stand in front of one etcd; two clients of each registry, one of them
for a single model, apply what they are told, and must hold what is listed, whatever happens.
"""

import time
from random import Random

import pytest
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from smls.errors import Unavailable
from smls.wire import ModelRecord, NodeRecord, NodeState
from smls_registry.leases import LeaseTable
from smls_registry.roster import Roster
from smls_registry.stores import etcd as etcd_store
from smls_registry.stores import gateway
from smls_registry.stores.etcd import EtcdStore
from smls_registry.stores.gateway import Cluster, Gateway
from smls_registry.stores.memory import MemoryStore
from tests.etcd import IS_INSTALLED, NOT_INSTALLED, Etcd, Network

TTL = 2.0
"""Seconds; etcd can do no less."""


def sleep(seconds):
    return deferLater(reactor, seconds)


async def until(check, seconds=20):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, check
        await sleep(0.02)


def node(number, zone="", models=("flowers",)):
    records = tuple(map(ModelRecord, models))
    return NodeRecord(f"node-{number}", f"192.0.2.{number}:1", zone=zone, models=records)


class Client:
    """Watches ``roster`` for ``model``: holds a snapshot, and applies each delta to it."""

    def __init__(self, roster, model):
        self.roster, self.model = roster, model
        self.history = roster.history
        self.revisions = [roster.revision]
        self.nodes = self.listed()
        self.past = {roster.revision: dict(self.nodes)}
        roster.listeners.append(self.changed)

    def listed(self):
        return {held.id: held for held in self.roster.listing(self.model).nodes}

    def changed(self, change):
        assert self.roster.history == self.history
        assert change.revision > self.revisions[-1]
        assert change.revision == self.roster.revision
        self.revisions.append(change.revision)
        delta = change.delta(self.model)
        if delta is not None:
            apply(self.nodes, delta)
        assert self.nodes == self.listed()
        self.past[change.revision] = dict(self.nodes)

    def check(self):
        """That it holds what is listed, and could have resumed wherever it may."""
        assert self.nodes == self.listed()
        # What was read anew and was as before told nobody, and may not reach further back.
        self.past.setdefault(self.roster.revision, dict(self.nodes))
        resumed = 0
        for revision, nodes in self.past.items():
            changes = self.roster.since(self.history, revision)
            if changes is None:
                continue
            resumed += 1
            for change in changes:
                delta = change.delta(self.model)
                if delta is not None:
                    apply(nodes, delta)
            assert nodes == self.nodes
        assert resumed


def apply(nodes, delta):
    for node_id in delta.gone:
        del nodes[node_id]
    for held in delta.put:
        nodes[held.id] = held


class Nodes:
    """Nodes that announce and renew themselves at all ``stores``, change and leave at random."""

    def __init__(self, stores, random):
        self.stores, self.random = stores, random
        self.records = {}
        self.refused = 0

    async def live(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self.step()
            await self.renew()
            await sleep(0.02)

    async def step(self):
        number = self.random.randrange(12)
        store = self.random.choice(self.stores)
        kind = self.random.choice(["announce", "announce", "change", "leave", "replace"])
        try:
            if kind == "leave":
                # It is a node no more, whether or not that could be told.
                self.records.pop(number, None)
                await store.withdraw(f"node-{number}")
                return
            models = ("flowers",) if kind == "announce" else ("flowers", "birds")
            record = node(number, str(self.random.random()), models)
            if kind == "replace":
                record = NodeRecord(f"{record.id}-{self.random.random()}", record.address)
            self.records[number] = record
            await store.announce(record)
        except Unavailable:
            self.refused += 1

    async def renew(self):
        calls = [
            ensureDeferred(self.renew_at(store, record))
            for store in self.stores
            for record in self.records.values()
        ]
        await gatherResults(calls)

    async def renew_at(self, store, record):
        try:
            if not store.renew(record.id) or store.roster.get(record.id) != record:
                await store.announce(record)
        except Unavailable:
            self.refused += 1

    async def settle(self):
        """Until each store lists exactly these nodes."""
        wanted = {record.id: record for record in self.records.values()}
        end = time.monotonic() + 20
        while any(listed(store) != wanted for store in self.stores):
            assert time.monotonic() < end, [listed(store) for store in self.stores]
            await self.renew()
            for store in self.stores:
                for node_id in set(listed(store)) - set(wanted):
                    try:
                        await store.withdraw(node_id)
                    except Unavailable:
                        self.refused += 1
            await sleep(0.1)


def listed(store):
    store.sweep()
    return {held.id: held for held in store.roster.listing().nodes}


class StoreTests:
    """Mixed into a TestCase that makes ``stores``."""

    timeout = 60

    async def test_what_is_told_is_what_is_listed(self):
        await self.begin()
        nodes = Nodes(self.stores, Random(1))
        await nodes.live(1)
        await nodes.settle()
        assert nodes.refused == 0
        self.check()
        assert len(self.clients[0].revisions) > 10

    async def test_an_announcement_is_listed_where_it_was_made(self):
        await self.begin()
        for store in self.stores:
            record = node(1, str(store))
            await store.announce(record)
            assert listed(store) == {record.id: record}
        assert not await self.stores[0].announce(record)
        assert await self.stores[-1].withdraw(record.id) == record
        assert listed(self.stores[-1]) == {}
        await until(lambda: not any(map(listed, self.stores)))
        assert await self.stores[0].withdraw(record.id) is None
        self.check()

    async def test_a_new_node_at_an_address_replaces_the_old_in_one_change(self):
        await self.begin()
        await self.stores[0].announce(node(1))
        await until(lambda: all(map(listed, self.stores)))
        before = [len(client.revisions) for client in self.clients]
        new = NodeRecord("new", node(1).address, models=node(1).models)
        await self.stores[-1].announce(new)
        await until(lambda: all(listed(store) == {"new": new} for store in self.stores))
        assert [len(client.revisions) for client in self.clients] == [n + 1 for n in before]
        self.check()

    async def test_half_of_those_that_fall_silent_stay_as_suspects(self):
        await self.begin()
        for number in range(4):
            await self.stores[number % len(self.stores)].announce(node(number))
        await until(lambda: all(len(listed(store)) == 4 for store in self.stores))
        suspects = [NodeState.SUSPECT] * 2
        await until(lambda: all(self.states(store) == suspects for store in self.stores))
        for store in self.stores:
            (record, *_) = (held for held in listed(store).values())
            assert not store.renew(record.id)
        for number in range(4):
            await self.stores[0].announce(node(number))
        await until(
            lambda: all(self.states(store) == [NodeState.LIVE] * 4 for store in self.stores)
        )
        self.check()

    async def test_a_suspect_that_stays_silent_is_released(self):
        self.patch(etcd_store, "SUSPECT_TTLS", 1)
        self.patch(leases_module(), "SUSPECT_TTLS", 1)
        await self.begin()
        await self.stores[0].announce(node(1))
        await until(lambda: self.states(self.stores[-1]) == [NodeState.SUSPECT])
        await until(lambda: not any(map(listed, self.stores)))
        self.check()

    async def test_a_lease_tells_when_it_runs_out(self):
        await self.begin()
        store = self.stores[0]
        await store.announce(node(1))
        left = await store.expires_at("node-1") - store.seconds()
        assert 0 < left <= store.ttl_seconds
        assert 0 <= store.seconds() - store.known_since("node-1") < 5

    async def begin(self):
        for store in self.stores:
            store.start()
            self.addCleanup(lambda store=store: ensureDeferred(store.stop()))
        await until(lambda: all(store.known for store in self.stores))
        self.clients = [
            Client(store.roster, model) for store in self.stores for model in (None, "birds")
        ]

    def states(self, store):
        return [held.state for held in listed(store).values()]

    def check(self):
        for client in self.clients:
            client.check()


def leases_module():
    from smls_registry import leases

    return leases


class MemoryStoreTests(StoreTests, TestCase):
    def setUp(self):
        table = LeaseTable(Roster("history", kept=20), TTL / 4)
        self.stores = [MemoryStore(table, time.monotonic)]


@pytest.mark.skipif(not IS_INSTALLED, reason=NOT_INSTALLED)
class EtcdStoreTests(StoreTests, TestCase):
    """Two registries, each with a network of its own to the same etcd."""

    tests = 0

    @classmethod
    def setUpClass(cls):
        cls.etcd = Etcd()
        cls.etcd.start()

    @classmethod
    def tearDownClass(cls):
        cls.etcd.close()

    def setUp(self):
        # What takes 15 s of silence takes 1 s here.
        self.patch(gateway, "SILENCE_SECONDS", 1.0)
        self.patch(gateway, "CALL_SECONDS", 0.5)
        self.patch(etcd_store, "HEARTBEAT_SECONDS", 0.3)
        self.patch(etcd_store, "MOST_RETRY_SECONDS", 0.3)
        type(self).tests += 1
        self.networks, self.stores = [], []
        for _ in range(2):
            network = Network(self.etcd.port)
            port = reactor.listenTCP(0, network, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            self.addCleanup(self.all_closed, network)
            self.networks.append(network)
            self.stores.append(self.store(f"http://127.0.0.1:{port.getHost().port}"))

    def store(self, *endpoints):
        reached = Gateway(reactor, Cluster(endpoints))
        return EtcdStore(reactor, reached, f"/test-{self.tests}", TTL, time.monotonic)

    async def all_closed(self, network):
        network.heal()
        await until(lambda: not network.cables)

    async def test_kill_and_restart(self):
        await self.begin()
        nodes = Nodes(self.stores, Random(2))
        await nodes.live(0.5)
        held = [listed(store) for store in self.stores]
        self.etcd.kill()
        await nodes.live(0.5)
        assert nodes.refused
        assert [listed(store) for store in self.stores] == held
        self.etcd.start(wait=False)
        await nodes.live(1.5)
        await nodes.settle()
        self.check()

    async def test_a_pause(self):
        await self.begin()
        nodes = Nodes(self.stores, Random(3))
        await nodes.live(0.5)
        held = [listed(store) for store in self.stores]
        self.etcd.pause()
        self.addCleanup(self.etcd.go_on)
        await nodes.live(2)
        assert nodes.refused
        assert [listed(store) for store in self.stores] == held
        self.etcd.go_on()
        await nodes.live(1)
        await nodes.settle()
        self.check()

    async def test_a_partition_of_one_registry(self):
        await self.begin()
        nodes = Nodes(self.stores, Random(4))
        await nodes.live(0.5)
        held = listed(self.stores[0])
        self.networks[0].cut()
        await nodes.live(2)
        assert nodes.refused
        assert listed(self.stores[0]) == held
        assert listed(self.stores[1]) != held
        self.networks[0].heal()
        await nodes.live(0.5)
        await nodes.settle()
        self.check()

    async def test_a_partition_of_all_until_the_leases_ran_out(self):
        await self.begin()
        wanted = {node(number).id: node(number) for number in range(6)}
        for record in wanted.values():
            await self.stores[0].announce(record)
        await until(lambda: all(listed(store) == wanted for store in self.stores))
        for network in self.networks:
            network.cut()
        key = gateway.encoded(f"/test-{self.tests}/nodes/")
        everything = {"key": key, "range_end": gateway.encoded(f"/test-{self.tests}/nodes0")}
        end = time.monotonic() + 15
        while self.etcd.call("/v3/kv/range", everything).get("kvs"):
            assert time.monotonic() < end
            for record in wanted.values():
                self.stores[0].renew(record.id)
                with pytest.raises(Unavailable) as refused:
                    await self.stores[0].announce(record)
                assert refused.value.retry_after_seconds
            await sleep(0.1)
        assert all(listed(store) == wanted for store in self.stores)
        for network in self.networks:
            network.heal()
        # No node says anything more: the registry knows that they lived a moment ago.
        await until(lambda: len(self.etcd.call("/v3/kv/range", everything).get("kvs", ())) == 6)
        await sleep(0.2)
        assert listed(self.stores[0]) == wanted
        self.check()

    async def test_compaction(self):
        await self.begin()
        nodes = Nodes(self.stores, Random(5))
        await nodes.live(0.5)
        self.networks[0].cut()
        await nodes.live(1)
        self.etcd.compact()
        # From before the compaction a watch is refused, as it is to who read too early.
        with pytest.raises(gateway.WatchEnded, match="compacted"):
            await self.stores[1]._watch(1)
        self.networks[0].heal()
        await nodes.live(0.5)
        await nodes.settle()
        self.check()

    async def test_a_registry_that_dies_takes_nothing_along(self):
        await self.begin()
        await self.stores[0].announce(node(1))
        await self.stores[0].stop()
        third = self.store(self.etcd.url)
        third.start()
        self.addCleanup(lambda: ensureDeferred(third.stop()))
        await until(lambda: third.known)
        assert listed(third) == {"node-1": node(1)}
        assert third.roster.history == self.stores[1].roster.history
        for _ in range(30):
            if not third.renew("node-1"):
                await third.announce(node(1))
            await sleep(TTL / 20)
        assert listed(self.stores[1]) == {"node-1": node(1)}

    async def test_a_watcher_can_resume_at_another_registry(self):
        await self.begin()
        await self.stores[0].announce(node(1))
        await until(lambda: listed(self.stores[1]))
        revision = self.stores[0].roster.changed_at
        nodes = {"node-1": node(1)}
        await self.stores[0].announce(node(2))
        await self.stores[0].withdraw("node-1")
        await until(lambda: set(listed(self.stores[1])) == {"node-2"})
        for change in self.stores[1].roster.since(self.stores[0].roster.history, revision):
            apply(nodes, change.delta(None))
        assert nodes == listed(self.stores[1])

    async def test_only_the_very_lease_is_taken_out(self):
        await self.begin()
        first, second = self.stores
        await first.announce(node(1))
        await until(lambda: listed(second))
        self.networks[1].cut()
        await first.withdraw("node-1")
        await first.announce(node(1, "again"))
        leaving = ensureDeferred(second.withdraw("node-1", "let go"))
        self.networks[1].heal()
        assert await leaving is None
        assert listed(first) == {"node-1": node(1, "again")}

    async def test_a_lost_event_is_noticed(self):
        await self.begin()
        await self.stores[0].announce(node(1))
        await until(lambda: listed(self.stores[1]))
        self.stores[1].roster.change(gone=["node-1"], why="lost by the test")
        await self.stores[0].announce(node(2))
        await self.stores[1]._compare_all()
        await until(lambda: set(listed(self.stores[1])) == {"node-1", "node-2"})
        self.check()

    async def test_a_record_that_cannot_be_read_hides_no_other(self):
        await self.begin()
        key = gateway.encoded(f"/test-{self.tests}/nodes/broken")
        self.etcd.call("/v3/kv/put", {"key": key, "value": gateway.encoded("{")})
        await self.stores[0].announce(node(1))
        await until(lambda: listed(self.stores[1]))
        self.check()

    async def test_the_other_endpoints_are_tried(self):
        gone = "http://127.0.0.1:9"
        store = self.store(gone, self.etcd.url)
        store.start()
        self.addCleanup(lambda: ensureDeferred(store.stop()))
        await until(lambda: store.known)
        assert await store.announce(node(1))

    async def test_where_no_etcd_answers_nothing_is_known(self):
        store = self.store("http://127.0.0.1:9")
        store.start()
        self.addCleanup(lambda: ensureDeferred(store.stop()))
        await sleep(1)
        assert not store.known
        with pytest.raises(Unavailable, match="refused"):
            await store.announce(node(1))
