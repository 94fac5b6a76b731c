# SPDX-License-Identifier: MIT
"""A registry, nodes and clients as real programs, in good times and in bad."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import smls
from smls_node import embedded
from smls_node.labels import hash_of, read_labels
from tests.integration.fleet import (
    DIGITS,
    SAMPLES,
    THREE,
    UNMEASURED,
    Fleet,
    Load,
    ask,
    begin_upload,
    best,
    classify,
    connect,
    end_upload,
    listed,
    names_at,
    records,
    reply,
)
from tests.processes import LOCAL, Running, run, running, running_all, until

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def shell(line: str) -> str:
    """What a line prints that is typed into a shell."""
    done = subprocess.run(
        ["sh", "-ec", line], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_a_registry_lists_what_the_nodes_announce(pair: Fleet) -> None:
    labels_hash = hash_of(read_labels(embedded.LABELS))
    found = {node["name"]: node for node in listed(pair.registry)}
    assert set(found) == {"one", "two"}
    for node in pair.nodes:
        told = ask(node.url).json
        record = found[told["node"]]
        assert record["address"] == node.address
        assert record["protocols"] == ["forms"]
        (model,) = record["models"]
        assert (model["name"], model["version"]) == ("digits", "1")
        assert model["labels_hash"] == labels_hash == told["models"][0]["labels_hash"]


def test_the_command_classifies_on_both_nodes_in_turn(pair: Fleet) -> None:
    samples = [SAMPLES / name for name in DIGITS]
    options = ("--registry", pair.registry.url, "--balancer", "round-robin")
    done = run("smls-client", *options, "classify", "--json", *samples)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [best(each) for each in found] == list(DIGITS.values())
    assert Counter(each["node"] for each in found) == {"one": 3, "two": 3}
    addresses = {each["node"]: each["address"] for each in found}
    assert addresses == {"one": pair.nodes[0].address, "two": pair.nodes[1].address}
    assert {(each["model"], each["version"]) for each in found} == {("digits", "1")}
    done = run("smls-client", "--registry", pair.registry.url, "nodes")
    assert all(node.address in done.stdout for node in pair.nodes)


def test_the_blocking_client_takes_turns_and_a_bad_image_is_nobodys_fault(pair: Fleet) -> None:
    with smls.BlockingClient(pair.registry.url, balancer="round-robin") as client:
        found = [client.classify(THREE, top=2) for _ in range(6)]
        assert Counter(each.node for each in found) == {"one": 3, "two": 3}
        assert {each.predictions[0].label for each in found} == {"3"}
        assert {len(each.predictions) for each in found} == {2}
        assert {node.name for node in client.nodes()} == {"one", "two"}
        with pytest.raises(smls.NotAnImage):
            client.classify(b"this is no image")
        with pytest.raises(smls.BrokenImage):
            client.classify(THREE.read_bytes()[:200])
        assert client.classify(THREE).predictions[0].label == "3"


@curl
@pytest.mark.parametrize("path", ["", "?top=2", "classify", "classify?top=2&model=digits"])
def test_curl_reaches_a_node_by_the_registrys_redirect(pair: Fleet, path: str) -> None:
    url = f"{pair.registry.url}{path}"
    printed = shell(f"curl -sSf -L -H 'Expect: 100-continue' -F data=@{THREE} '{url}'")
    answer = json.loads(printed)
    assert best(answer) == "3"
    count = len(answer["predictions"] if "classify" in path else answer)
    assert count == (2 if "top=2" in path else 5)


@curl
def test_curl_asks_the_registry_for_the_next_node(pair: Fleet) -> None:
    registry = pair.registry.url
    for _ in range(2):
        printed = shell(f"curl -sSf -F data=@{THREE} http://`curl -sSf {registry}next`/")
        assert best(json.loads(printed)) == "3"
    turns = [shell(f"curl -sSf {registry}next").strip() for _ in range(4)]
    assert Counter(turns) == {node.address: 2 for node in pair.nodes}


def test_each_model_is_asked_where_it_is_served(mixed: Fleet) -> None:
    one, three = mixed.nodes
    image = THREE.read_bytes()
    for model, node, label, version in (
        ("digits", one, "3", "1"),
        ("colours", three, "colours-0", "4"),
        ("shapes", three, "shapes-1", "1"),
    ):
        for _ in range(2):
            turn = ask(f"{mixed.registry.url}next?model={model}")
            assert turn.body.decode() == f"{node.address}\n"
            sent_on = ask(f"{mixed.registry.url}classify?model={model}", b"x")
            assert sent_on.status == 307
            assert sent_on.headers["Location"] == f"{node.url}classify?model={model}"
        answer = classify(node.url, image, path=f"classify?model={model}").json
        assert (best(answer), answer["model"], answer["version"]) == (label, model, version)
        with smls.BlockingClient(mixed.registry.url) as client:
            found = [client.classify(image, model=model) for _ in range(3)]
            assert {each.predictions[0].label for each in found} == {label}
            assert [each.address for each in client.nodes(model)] == [node.address]
    answer = ask(f"{mixed.registry.url}next?model=fish")
    assert (answer.status, answer.code) == (503, "no_live_nodes")
    with smls.BlockingClient(mixed.registry.url) as client, pytest.raises(smls.NoLiveNodes):
        client.classify(image, model="fish")


def test_nodes_serve_while_a_registry_is_away_and_are_back_by_themselves(
    pair: Fleet, absent: tuple[str, ...]
) -> None:
    for node in pair.nodes:
        until(lambda node=node: "not announced at registry http://127.0.0.1" in node.log)
        assert best(classify(node.url, THREE.read_bytes()).json) == "3"
    with running("smls-registry", *absent) as registry:
        until(lambda: names_at(registry) == pair.names)
        client = smls.BlockingClient(registry.url, balancer="round-robin")
        assert client.classify(THREE).predictions[0].label == "3"
        status, _, _ = registry.stop()
        assert status == 0
    with client:
        # Both have the client ask the registry again.
        assert {node.name for node in client.nodes()} == pair.names
        found = [client.classify(THREE) for _ in range(6)]
        assert Counter(each.node for each in found) == {"one": 3, "two": 3}
        with running("smls-registry", *absent) as registry:
            until(lambda: names_at(registry) == pair.names)
            assert {node.name for node in client.nodes()} == pair.names
            assert client.classify(THREE).node in pair.names


# Nodes that die ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mortals(registries: list[Running], pair: Fleet) -> Iterator[dict[str, Running]]:
    """Nodes by name, each for a test to end it; the pair's first node outlives them."""
    registry = registries[2]
    options = ("smls-node", *LOCAL, *UNMEASURED, "--log-format", "json")
    options += ("--registry", registry.url)
    drains = {"killed": 30, "drained": 30, "hurried": 30, "stuck": 0.5}
    commands = [
        (*options, "--node-name", name, "--drain-timeout", seconds)
        for name, seconds in drains.items()
    ]
    with running_all(*commands) as nodes:
        until(lambda: names_at(registry) == {"one", *drains})
        yield dict(zip(drains, nodes, strict=True))


def test_killing_a_node_fails_no_call(
    registries: list[Running], mortals: dict[str, Running]
) -> None:
    registry, victim = registries[2], mortals["killed"]
    (record,) = [node for node in listed(registry) if node["name"] == "killed"]
    with smls.BlockingClient(registry.url) as client:
        with Load(client, callers=32).running() as load:
            load.answered(20, "killed", "one")
            victim.process.kill()
            until(lambda: "killed" not in {node.name for node in client.nodes()})
            assert "killed" not in names_at(registry)
            load.answered(100, "one")
        assert load.failures == []
    # Nobody waited for its lease to run out.
    assert history(registry, record["id"]) == ["announced", "let go"]


def test_sigterm_under_load_loses_nothing(
    registries: list[Running], mortals: dict[str, Running]
) -> None:
    registry, victim = registries[2], mortals["drained"]
    (record,) = [node for node in listed(registry) if node["name"] == "drained"]
    with smls.BlockingClient(registry.url) as client:
        with Load(client, callers=16).running() as load:
            load.answered(20, "drained", "one")
            kept = connect(victim.url)
            kept.request("GET", "/readyz")
            assert reply(kept.getresponse()).status == 200
            held = begin_upload(victim)
            until(lambda: in_flight(victim))
            victim.terminate()
            # The upload that is half there keeps it draining.
            until(lambda: "draining" in victim.log)
            assert "drained" not in names_at(registry)
            for connection in (kept, connect(victim.url)):
                connection.request("POST", "/classify", THREE.read_bytes())
                refused = reply(connection.getresponse())
                assert (refused.status, refused.code) == (503, "overloaded")
                assert int(refused.headers["Retry-After"]) >= 1
                connection.close()
            ready = ask(f"{victim.url}readyz")
            assert (ready.status, ready.headers["Retry-After"]) == (503, "1")
            assert ask(f"{victim.url}healthz").status == 200
            load.answered(50, "one")
            answer = end_upload(held)
            held.close()
            assert (answer.status, best(answer.json), answer.json["node"]) == (200, "3", "drained")
            status, _, log = victim.end()
            load.answered(20, "one")
        assert load.failures == []
    assert status == 0
    assert "Traceback" not in log
    assert history(registry, record["id"]) == ["announced", "withdrawn"]


def test_a_drain_that_takes_too_long_names_what_hangs(mortals: dict[str, Running]) -> None:
    victim = mortals["stuck"]
    held = begin_upload(victim, "/classify?top=3")
    until(lambda: in_flight(victim))
    begun = time.monotonic()
    status, _, log = victim.stop()
    held.close()
    assert status == 1
    assert time.monotonic() - begun < 30
    (line,) = [each for each in records(log) if "still in flight" in each["message"]]
    assert line["level"] == "error"
    assert "POST /classify?top=3 from" in line["message"]
    assert "gave up draining after 0.5 s" in log


def test_a_second_sigterm_ends_a_drain_at_once(mortals: dict[str, Running]) -> None:
    victim = mortals["hurried"]
    held = begin_upload(victim)
    until(lambda: in_flight(victim))
    begun = time.monotonic()
    victim.terminate()
    until(lambda: "draining 1 requests" in victim.log)
    victim.terminate()
    status, _, _ = victim.end()
    held.close()
    assert status == 1
    assert time.monotonic() - begun < 25


def history(registry: Running, node_id: str) -> list[str]:
    """What became of a node, by the registry's log."""
    events = records(registry.log)
    return [each["what"] for each in events if "what" in each and each["node_id"] == node_id]


def in_flight(node: Running) -> bool:
    """Whether the node has read the head of an upload: it answers what came after it."""
    return ask(f"{node.url}healthz").status == 200


def test_the_answers_of_many_clients_are_their_own(pair: Fleet) -> None:
    files = {label: (SAMPLES / name).read_bytes() for name, label in DIGITS.items()}

    def ask_for(number: int) -> tuple[str, str]:
        label = list(files)[number % len(files)]
        url = pair.nodes[number % 2].url
        return label, best(classify(url, files[label]).json)

    with ThreadPoolExecutor(16) as pool:
        assert all(wanted == got for wanted, got in pool.map(ask_for, range(200)))
