# SPDX-License-Identifier: MIT
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smls.errors import Overloaded
from smls.wire import ModelRecord, NodeRecord
from smls_registry.leases import LeaseTable

MODELS = ("flowers", "birds", "digits")


def node(node_id, address="192.0.2.1:8501", models=("flowers",), zone=""):
    return NodeRecord(node_id, address, zone=zone, models=tuple(map(ModelRecord, models)))


def test_a_renewed_lease_outlives_its_first_ttl():
    table = LeaseTable(ttl_seconds=10)
    table.announce(node("a"), 0)
    table.announce(node("a"), 9)
    assert table.expire(18.9) == []
    assert table.expire(19) == [node("a")]
    assert table.listing().nodes == ()


def test_an_equal_renewal_is_no_change():
    table = LeaseTable()
    table.announce(node("a"), 0)
    assert table.announce(node("a"), 1).old == node("a")
    assert table.revision == 1


def test_a_new_id_at_an_old_address_replaces_it_in_one_change():
    table = LeaseTable()
    table.announce(node("old"), 0)
    assert table.announce(node("new"), 1).replaced == node("old")
    assert table.listing().nodes == (node("new"),)
    assert table.revision == 2


def test_a_late_announcement_of_a_replaced_id_replaces_in_turn():
    table = LeaseTable()
    table.announce(node("old"), 0)
    table.announce(node("new"), 1)
    assert table.announce(node("old"), 2).is_new
    assert table.announce(node("new"), 3).replaced == node("old")


def test_a_full_table_still_renews_and_replaces():
    table = LeaseTable(max_nodes=1)
    table.announce(node("a"), 0)
    table.announce(node("a", zone="west"), 1)
    table.announce(node("b"), 2)
    with pytest.raises(Overloaded):
        table.announce(node("c", "192.0.2.2:8501"), 3)
    assert table.listing().nodes == (node("b"),)


def test_made_up_models_take_no_memory():
    table = LeaseTable()
    table.announce(node("a"), 0)
    for number in range(1000):
        assert table.next(f"model-{number}") is None
    assert len(table._turns._queues) == 2
    table.withdraw("a")
    assert not table._turns._queues


def test_a_node_that_joins_waits_for_its_turn():
    table = LeaseTable()
    for number in range(3):
        table.announce(node(str(number), f"192.0.2.{number}:1"), 0)
    assert [table.next().id for _ in range(2)] == ["0", "1"]
    table.announce(node("3", "192.0.2.3:1"), 1)
    assert [table.next().id for _ in range(6)] == ["2", "0", "1", "3", "2", "0"]


class LeaseMachine(RuleBasedStateMachine):
    """The table against a dict of id to (record, expiry), looked through from end to end."""

    @initialize(ttl=st.sampled_from([1, 5, 10]), most=st.integers(1, 6))
    def start(self, ttl, most):
        self.ttl, self.most, self.now = ttl, most, 100
        self.table = LeaseTable(ttl, most)
        self.model = {}
        self.revision = 0
        self.served = {}

    @rule(seconds=st.integers(0, 12))
    def wait(self, seconds):
        self.now += seconds
        expired = self.table.expire(self.now)
        expected = [held for held, end in self.model.values() if end <= self.now]
        assert sorted(expired, key=lambda held: held.id) == sorted(expected, key=lambda h: h.id)
        for held in expected:
            self.drop(held.id)

    @rule(
        node_id=st.sampled_from("abcdefgh"),
        port=st.integers(1, 5),
        models=st.sets(st.sampled_from(MODELS)),
    )
    def announce(self, node_id, port, models):
        record = node(node_id, f"192.0.2.1:{port}", sorted(models))
        before = {held.id: held for held, _ in self.model.values()}
        replaced = [
            held
            for held in before.values()
            if held.address == record.address != "" and held.id != node_id
        ]
        if node_id not in before and not replaced and len(before) >= self.most:
            with pytest.raises(Overloaded):
                self.table.announce(record, self.now)
            return
        done = self.table.announce(record, self.now)
        assert done.old == before.get(node_id)
        assert done.replaced == (replaced[0] if replaced else None)
        if before.get(node_id) != record:
            self.revision += 1
            self.served = {}
        for held in replaced:
            del self.model[held.id]
        self.model[node_id] = (record, self.now + self.ttl)

    @rule(node_id=st.sampled_from("abcdefgh"))
    def withdraw(self, node_id):
        expected = self.model.get(node_id, (None, 0))[0]
        assert self.table.withdraw(node_id) == expected
        if expected is not None:
            self.drop(node_id)

    @rule(model=st.sampled_from([None, *MODELS]))
    def take_turns(self, model):
        serving = {held.id for held, _ in self.model.values() if held.serves(model)}
        turn = self.table.next(model)
        if turn is None:
            assert not serving
            return
        assert turn == self.model[turn.id][0]
        assert turn.id in serving
        counts = self.served.setdefault(model, dict.fromkeys(serving, 0))
        counts[turn.id] += 1
        assert max(counts.values()) - min(counts.values()) <= 1

    def drop(self, node_id):
        del self.model[node_id]
        self.revision += 1
        self.served = {}

    @invariant()
    def lists_what_lives(self):
        if not hasattr(self, "table"):
            return
        assert self.table.revision == self.revision
        live = [held for held, _ in self.model.values()]
        for model in (None, *MODELS):
            listing = self.table.listing(model)
            assert listing.revision == self.revision
            assert sorted(listing.nodes, key=lambda held: held.id) == sorted(
                (held for held in live if held.serves(model)), key=lambda held: held.id
            )
        addresses = [held.address for held in self.table.listing().nodes]
        assert addresses == sorted(set(addresses))
        for held, end in self.model.values():
            assert self.table.lease(held.id).expires_at == end


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
