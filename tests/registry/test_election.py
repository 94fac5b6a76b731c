# SPDX-License-Identifier: MIT
"""Registries before an etcd of three members whose leader is killed: nothing is lost."""

import time
from contextlib import ExitStack
from random import Random

import pytest
from attrs import evolve
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from smls.address import Advertise
from smls.lease import Announcer
from smls.merged import Merged
from smls.transport import Transport
from smls.watch import Watch
from smls.wire import ModelRecord, NodeRecord, NodeState
from tests.etcd import IS_INSTALLED, NOT_INSTALLED, EtcdCluster
from tests.processes import LOCAL, REGISTRY, running_all

TTL_SECONDS = 2
"""etcd can do no less."""


async def until(check, seconds=30):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, check
        await deferLater(reactor, 0.02)


def command(members):
    """A registry before ``members``, which it tries in this order."""
    place = ",".join(f"127.0.0.1:{member.port}" for member in members)
    return (REGISTRY, *LOCAL, "--ttl", TTL_SECONDS, "--store", f"etcd://{place}")


class Node:
    """Announces itself to all ``registries`` and holds a lease at each, as nodes do."""

    def __init__(self, name, port, registries):
        self.record = NodeRecord(name, f"127.0.0.1:{port}", models=(ModelRecord("flowers"),))
        self.pool = HTTPConnectionPool(reactor)
        http = HTTPClient(Agent(reactor, pool=self.pool))
        advertise = Advertise(port, "127.0.0.1")
        self.announcer = Announcer(
            reactor, http, registries, lambda _: self.record, advertise, Random(port)
        )
        self.announcer.start()

    def change(self, zone):
        self.record = evolve(self.record, zone=zone)
        self.announcer.update()

    async def leave(self):
        await self.announcer.withdraw()
        await self.pool.closeCachedConnections()


class Watcher:
    """Watches a registry as clients do, and sees that no node of ``living`` is ever missed."""

    def __init__(self, url, living):
        self.url, self.living = url, living
        self.faults = []
        self.revisions = []
        self._merged = Merged([url])
        self._watch = Watch(Transport(reactor), reactor, Random(1), url, self._merged, self._told)
        self._watch.start()

    @property
    def told(self):
        return self._merged.told.get(self.url)

    @property
    def nodes(self):
        return {} if self.told is None else dict(self.told.nodes)

    def stop(self):
        self._watch.stop()

    def _told(self):
        if not self._merged.live:
            # A registry that has not reached etcd yet has no list.
            if self.revisions:
                self.faults.append(f"the stream broke: {self._watch.reason}")
            return
        if self.revisions and self.told.revision < self.revisions[-1]:
            self.faults.append(f"revision {self.told.revision} after {self.revisions[-1]}")
        self.revisions.append(self.told.revision)
        for name in self.living:
            held = self.nodes.get(name)
            if held is None or held.state is not NodeState.LIVE:
                self.faults.append(f"revision {self.told.revision}: {name} is {held}")


@pytest.mark.skipif(not IS_INSTALLED, reason=NOT_INSTALLED)
class ElectionTests(TestCase):
    timeout = 120

    def setUp(self):
        self.etcd = EtcdCluster()
        self.addCleanup(self.etcd.close)
        self.etcd.start()
        # One registry watches the member that is to be killed first, the other one does not.
        leader = self.etcd.leader()
        others = [member for member in self.etcd.members if member is not leader]
        commands = [command((leader, *others)), command((*others, leader))]
        stack = ExitStack()
        self.addCleanup(stack.close)
        started = stack.enter_context(running_all(*commands))
        self.registries = [each.url.rstrip("/") for each in started]

    def node(self, name, port):
        node = Node(name, port, self.registries)
        self.addCleanup(node.leave)
        return node

    def all_list(self, nodes):
        wanted = {node.record.id: node.record for node in nodes}
        return lambda: all(watcher.nodes == wanted for watcher in self.watchers)

    async def test_a_leader_that_is_killed_costs_no_node_and_no_change(self):
        living = set()
        self.watchers = [Watcher(url, living) for url in self.registries]
        for watcher in self.watchers:
            self.addCleanup(watcher.stop)
        nodes = [self.node(f"node-{number}", 9000 + number) for number in range(4)]
        await until(self.all_list(nodes))
        living |= {node.record.id for node in nodes}
        for election in range(2):
            leader = await deferToThread(self.etcd.leader)
            leader.kill()
            # Without a leader: a node that changes, one that comes, and one that leaves.
            nodes[0].change(f"zone-{election}")
            nodes.append(self.node(f"new-{election}", 9100 + election))
            await until(self.all_list(nodes))
            living.add(nodes[-1].record.id)
            if not election:
                # Whatever lease was not renewed has run out by then.
                await deferLater(reactor, TTL_SECONDS + 1)
            nodes[1].change(f"zone-{election}")
            living.discard(nodes[2].record.id)
            await nodes.pop(2).leave()
            await until(self.all_list(nodes))
            await deferToThread(leader.start)
        first, second = self.watchers
        assert first.told == second.told
        assert first.faults == second.faults == []
