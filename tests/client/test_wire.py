# SPDX-License-Identifier: MIT
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import BadRecord
from smls.wire import (
    Delta,
    Listing,
    ModelRecord,
    NodeRecord,
    NodeState,
    check_name,
    delta_from_json,
    delta_to_json,
    join_address,
    listing_from_json,
    listing_to_json,
    node_from_json,
    node_to_json,
    split_address,
)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
hosts = st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True) | st.ip_addresses().map(str)
ports = st.integers(1, 65535)
texts = st.text(max_size=128)
models = st.builds(
    ModelRecord,
    names,
    names,
    st.text(max_size=32),
    texts,
    st.lists(names, max_size=2).map(tuple),
    st.floats(0, 1e8),
)
nodes = st.builds(
    NodeRecord,
    id=names,
    address=st.builds(join_address, hosts, ports),
    name=texts,
    scheme=st.sampled_from(["http", "https"]),
    zone=texts,
    protocols=st.lists(st.text(max_size=32), max_size=4).map(tuple),
    models=st.lists(models, max_size=4).map(tuple),
    state=st.sampled_from(NodeState),
)
deltas = st.builds(
    Delta,
    st.integers(0, 2**40),
    st.lists(nodes, max_size=3).map(tuple),
    st.lists(names, max_size=3).map(tuple),
)
listings = st.builds(Listing, st.integers(0, 2**40), st.lists(nodes, max_size=3).map(tuple))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def sent(node):
    return json.loads(json.dumps(node_to_json(node)))


def complaint(read, value):
    """What ``read`` has against ``value``; any error but a ``BadRecord`` is the test's failure."""
    try:
        read(value)
    except BadRecord as error:
        return error.message
    return ""


@given(listings)
def test_a_listing_survives_the_wire(listing):
    assert listing_from_json(json.loads(json.dumps(listing_to_json(listing)))) == listing


@given(deltas)
def test_a_delta_survives_the_wire(delta):
    assert delta_from_json(json.loads(json.dumps(delta_to_json(delta)))) == delta


@given(nodes, st.dictionaries(st.text(), anything, max_size=3))
def test_unknown_fields_are_ignored(node, more):
    assert node_from_json({**more, **sent(node)}) == node


@given(anything)
def test_any_json_is_a_listing_or_a_bad_record(value):
    for read in (node_from_json, listing_from_json, delta_from_json):
        message = complaint(read, value)
        assert message == "" or ("got" in message and "wanted" in message)
        assert len(message) < 300


@given(nodes, st.sampled_from(sorted(node_to_json(NodeRecord("a", "h:1")))), anything)
def test_a_field_of_any_kind_is_read_or_named(node, field, value):
    assert re.match(rf"$|{field}", complaint(node_from_json, {**sent(node), field: value}))


@given(hosts, ports)
def test_an_address_survives_being_joined_and_split(host, port):
    assert split_address(join_address(host, port)) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "a b:1",
        "a\n:1",
        "a/b:1",
        "<b>:1",
        "::1:1",
        "$(id):1",
        "host:\uff11",
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(BadRecord, match="address"):
        split_address(address)


@pytest.mark.parametrize("value", ["", "-a", "a b", "a" * 129, "a\n", None, 7, "ä"])
def test_what_is_no_name_is_refused(value):
    with pytest.raises(BadRecord, match="field: got"):
        check_name("field", value)


def test_a_node_serves_its_models_and_any():
    node = NodeRecord("a", "host:1", models=(ModelRecord("flowers"),))
    assert node.serves("flowers")
    assert node.serves(None)
    assert not node.serves("birds")


def test_a_node_serves_the_versions_that_answer():
    flowers = ModelRecord("flowers", "3", labels=("canary",))
    node = NodeRecord("a", "h:1", models=(flowers, ModelRecord("birds", "1", state="LOADING")))
    assert node.serves(None)
    assert node.serves("flowers")
    assert node.serves("flowers", "3")
    assert not node.serves("flowers", "2")
    assert node.serves("flowers", label="canary")
    assert not node.serves("flowers", label="stable")
    assert not node.serves("birds")
    assert node.serves(None, "3")
    assert not node.serves(None, "1")
