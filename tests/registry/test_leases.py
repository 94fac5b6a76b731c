# SPDX-License-Identifier: MIT
from collections import Counter

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smls.errors import Overloaded
from smls.wire import ModelRecord, NodeRecord, NodeState
from smls_registry.leases import LeaseTable
from smls_registry.roster import Roster
from smls_registry.suspects import SUSPECT_TTLS

MODELS = ("flowers", "birds", "digits")


def node(node_id, address="192.0.2.1:8501", models=("flowers",), zone=""):
    return NodeRecord(node_id, address, zone=zone, models=tuple(map(ModelRecord, models)))


def table_of(count=0, ttl_seconds=10.0, max_nodes=100):
    """A table with ``count`` nodes, announced at 0."""
    table = LeaseTable(Roster("history"), ttl_seconds, max_nodes)
    for number in range(count):
        table.announce(node(str(number), f"192.0.2.{number}:1"), 0)
    return table


def states(table):
    return [held.state for held in table.roster.listing().nodes]


LIVE, SUSPECT = NodeState.LIVE, NodeState.SUSPECT


def test_a_renewed_lease_outlives_its_first_ttl():
    table = table_of(3)
    table.announce(node("0", "192.0.2.0:1"), 9)
    assert table.renew("1", 9)
    table.expire(18.9)
    assert [held.id for held in table.roster.listing().nodes] == ["0", "1"]


def test_an_equal_renewal_is_no_change():
    table = table_of(1)
    assert not table.announce(node("0", "192.0.2.0:1"), 1)
    assert table.roster.revision == 1


def test_a_new_id_at_an_old_address_replaces_it_in_one_change():
    table = table_of()
    table.announce(node("old"), 0)
    table.announce(node("new"), 1)
    assert table.roster.listing().nodes == (node("new"),)
    assert table.roster.revision == 2


def test_a_late_announcement_of_a_replaced_id_replaces_in_turn():
    table = table_of()
    table.announce(node("old"), 0)
    table.announce(node("new"), 1)
    assert table.announce(node("old"), 2)
    assert table.announce(node("new"), 3)
    assert table.roster.listing().nodes == (node("new"),)


def test_a_full_table_still_renews_and_replaces():
    table = table_of(max_nodes=1)
    table.announce(node("a"), 0)
    table.announce(node("a", zone="west"), 1)
    table.announce(node("b"), 2)
    with pytest.raises(Overloaded):
        table.announce(node("c", "192.0.2.2:8501"), 3)
    assert table.roster.listing().nodes == (node("b"),)


@pytest.mark.parametrize(
    ("count", "silent", "dropped"),
    [(1, 1, 0), (2, 1, 1), (2, 2, 1), (3, 1, 1), (3, 2, 1), (10, 4, 4), (10, 10, 5)],
)
@pytest.mark.parametrize("together", [True, False])
def test_no_more_than_half_are_dropped_within_a_ttl(count, silent, dropped, together):
    table = table_of(count)
    for number in range(count):
        at = 1 if together else number / count
        table.renew(str(number), at if number < silent else 9)
    for tenth in range(110, 119):
        table.expire(tenth / 10)
    assert Counter(states(table)) == Counter({LIVE: count - silent, SUSPECT: silent - dropped})


def test_a_registry_that_hears_nothing_keeps_half_for_five_ttls_and_hears_again():
    table = table_of(8)
    table.expire(10)
    assert states(table) == [SUSPECT] * 4
    table.expire(59.9)
    assert states(table) == [SUSPECT] * 4
    for number in range(8):
        table.announce(node(str(number), f"192.0.2.{number}:1"), 59.9)
    assert states(table) == [LIVE] * 8
    table.expire(60)
    assert states(table) == [LIVE] * 8


def test_suspects_that_stay_silent_are_released():
    table = table_of(8)
    table.expire(10)
    table.expire(60)
    assert states(table) == []


def test_half_of_each_model_stays():
    table = table_of()
    for number in range(6):
        models = ["flowers"] if number < 4 else ["flowers", "birds"]
        table.announce(node(str(number), f"192.0.2.{number}:1", models), 0)
    for number in range(4):
        table.renew(str(number), 9)
    table.expire(10)
    left = [(held.id, held.state) for held in table.roster.listing("birds").nodes]
    assert left == [("5", SUSPECT)]


def test_a_suspect_is_not_renewed_but_announced():
    table = table_of(1)
    table.expire(10)
    assert not table.renew("0", 11)
    assert not table.announce(node("0", "192.0.2.0:1"), 11)
    assert states(table) == [LIVE]


def test_a_suspect_has_a_turn_only_where_no_other_lives():
    table = table_of(2)
    table.expire(10)
    (suspect,) = table.roster.listing().nodes
    assert table.roster.next("flowers") == suspect
    table.announce(node("live", "192.0.2.9:1"), 10)
    assert {table.roster.next("flowers").id for _ in range(5)} == {"live"}


class LeaseMachine(RuleBasedStateMachine):
    """The table against dicts of id to (record, expiry), looked through from end to end.

    One who watches each model gets what the roster tells, and must hold what the roster lists.
    """

    @initialize(ttl=st.sampled_from([1, 5, 10]), most=st.integers(1, 8))
    def start(self, ttl, most):
        self.ttl, self.most, self.now = ttl, most, 100
        self.roster = Roster("history", kept=4)
        self.table = LeaseTable(self.roster, ttl, most)
        self.live, self.suspects, self.dropped = {}, {}, []
        self.served = {}
        self.seen = {model: {} for model in (None, *MODELS)}
        self.revisions = [0]
        self.past = {0: ()}
        self.roster.listeners.append(self.changed)

    def changed(self, change):
        assert change.revision == self.revisions[-1] + 1 == self.roster.revision
        self.revisions.append(change.revision)
        self.past[change.revision] = self.roster.listing().nodes
        self.served = {}
        for model, nodes in self.seen.items():
            told(nodes, change.delta(model))

    @rule(seconds=st.integers(0, 12))
    def wait(self, seconds):
        self.now += seconds
        self.table.expire(self.now)
        self.dropped = [each for each in self.dropped if each[0] > self.now - self.ttl]
        before = {**self.live, **self.suspects}
        silent = [held for held, end in self.live.values() if end <= self.now]
        listed = {held.id: held for held in self.roster.listing().nodes}
        for node_id, (_, end) in list(self.suspects.items()):
            if end <= self.now:
                del self.suspects[node_id]
                assert node_id not in listed
        already = list(self.dropped)
        for held in silent:
            del self.live[held.id]
            if held.id in listed:
                until = self.now + SUSPECT_TTLS * self.ttl
                self.suspects[held.id] = (evolve(held, state=SUSPECT), until)
            else:
                self.dropped.append((self.now, held))
        for model in {
            model.name for _, held in self.dropped[len(already) :] for model in held.models
        }:
            lost = sum(held.serves(model) for _, held in self.dropped)
            were = sum(held.serves(model) for held, _ in before.values())
            were += sum(held.serves(model) for _, held in already)
            assert 2 * lost <= were

    @rule(
        node_id=st.sampled_from("abcdefgh"),
        port=st.integers(1, 6),
        models=st.sets(st.sampled_from(MODELS)),
    )
    def announce(self, node_id, port, models):
        record = node(node_id, f"192.0.2.1:{port}", sorted(models))
        known = {**self.live, **self.suspects}
        replaced = [
            held.id
            for held, _ in known.values()
            if held.address == record.address and held.id != node_id
        ]
        if node_id not in known and not replaced and len(known) >= self.most:
            with pytest.raises(Overloaded):
                self.table.announce(record, self.now)
            return
        assert self.table.announce(record, self.now) is (node_id not in known)
        for held in (*replaced, node_id):
            self.live.pop(held, None)
            self.suspects.pop(held, None)
        self.live[node_id] = (record, self.now + self.ttl)

    @rule(node_id=st.sampled_from("abcdefgh"))
    def renew(self, node_id):
        assert self.table.renew(node_id, self.now) is (node_id in self.live)
        if node_id in self.live:
            self.live[node_id] = (self.live[node_id][0], self.now + self.ttl)

    @rule(node_id=st.sampled_from("abcdefgh"))
    def withdraw(self, node_id):
        expected = {**self.live, **self.suspects}.get(node_id, (None, 0))[0]
        assert self.table.withdraw(node_id) == expected
        self.live.pop(node_id, None)
        self.suspects.pop(node_id, None)

    @rule(model=st.sampled_from([None, *MODELS]))
    def take_turns(self, model):
        serving = {held.id for held, _ in self.live.values() if held.serves(model)}
        serving = serving or {held.id for held, _ in self.suspects.values() if held.serves(model)}
        turn = self.roster.next(model)
        if turn is None:
            assert not serving
            return
        assert turn == self.roster.get(turn.id)
        assert turn.id in serving
        counts = self.served.setdefault(model, dict.fromkeys(serving, 0))
        counts[turn.id] += 1
        assert max(counts.values()) - min(counts.values()) <= 1

    @rule(back=st.integers(0, 8))
    def resume(self, back):
        revision = max(0, self.roster.revision - back)
        changes = self.roster.since("history", revision)
        assert (changes is None) is (self.roster.revision - revision > 4)
        if changes is not None:
            nodes = {held.id: held for held in self.past[revision]}
            for change in changes:
                told(nodes, change.delta(None))
            assert nodes == {held.id: held for held in self.roster.listing().nodes}

    @invariant()
    def lists_what_lives(self):
        if not hasattr(self, "table"):
            return
        known = {**self.live, **self.suspects}
        for model in (None, *MODELS):
            listing = self.roster.listing(model)
            assert listing.revision == self.roster.revision
            listed = {held.id: held for held in listing.nodes}
            assert listed == {
                node_id: held for node_id, (held, _) in known.items() if held.serves(model)
            }
            assert listed == self.seen[model]
        addresses = [held.address for held in self.roster.listing().nodes]
        assert addresses == sorted(set(addresses))
        assert {lease.node.id: lease.expires_at for lease in self.table.leases()} == {
            node_id: end for node_id, (_, end) in known.items()
        }


def told(nodes, delta):
    """Brings ``nodes``, by id, up to date with ``delta``; it must not be about nothing."""
    if delta is None:
        return
    assert delta.put or delta.gone
    for held in delta.gone:
        del nodes[held]
    for held in delta.put:
        nodes[held.id] = held


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
