# SPDX-License-Identifier: MIT
from smls.wire import ModelRecord, NodeRecord
from smls_registry.turns import Turns


def node(number, *models):
    return NodeRecord(str(number), f"192.0.2.{number}:1", models=models or (ModelRecord("x"),))


def test_made_up_models_take_no_memory():
    turns = Turns()
    turns.join(node(1))
    for number in range(1000):
        assert turns.next(f"model-{number}") is None
    assert len(turns._queues) == 2
    turns.leave(node(1))
    assert not turns._queues


def test_a_node_that_joins_waits_for_its_turn():
    turns = Turns()
    for number in range(3):
        turns.join(node(number))
    assert [turns.next("x").id for _ in range(2)] == ["0", "1"]
    turns.join(node(3))
    assert [turns.next("x").id for _ in range(6)] == ["2", "0", "1", "3", "2", "0"]


def test_a_model_that_loads_has_no_turn():
    turns = Turns()
    loading, loaded = ModelRecord("x", state="LOADING"), ModelRecord("x", "2")
    turns.join(node(1, loading))
    assert turns.next("x") is None
    assert turns.next(None) == node(1, loading)
    turns.change(node(1, loading), node(1, loading, loaded))
    assert turns.next("x") == node(1, loading, loaded)
