# SPDX-License-Identifier: MIT
"""Nothing is lost: nodes and registries that are killed and restarted under load.

The nodes run the digits in OpenVINO, so that a start takes half a second and not three.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import smls
from smls.balancer import Outcome
from smls.budget import HEDGE_FRACTION
from tests.integration.fleet import (
    THREE,
    Load,
    Watched,
    ask,
    at_port,
    free_port,
    names_at,
    records,
)
from tests.processes import LOCAL, Running, run, until

JSON = ("--log-format", "json")


@pytest.fixture(scope="module")
def light(light_digits: tuple[object, ...]) -> tuple[object, ...]:
    """A node that starts without TensorFlow."""
    return ("smls-node", *LOCAL, *JSON, *light_digits)


class Town:
    """Registries that keep their ports, and nodes by name; all are killed in the end."""

    def __init__(self, stack: ExitStack, light: tuple[object, ...], registries: int = 1) -> None:
        self.nodes: dict[str, Running] = {}
        self.logs: list[str] = []
        self._stack = stack
        self._light = light
        self._ports = [free_port() for _ in range(registries)]
        self.registries = [self._registry(port) for port in self._ports]
        self.urls = [registry.wait_ready().url for registry in self.registries]

    def start(self, *names: str) -> None:
        """Starts nodes, all at once; they are ready and listed."""
        where = [word for url in self.urls for word in ("--registry", url)]
        for name in names:
            command = (*self._light, *where, "--node-name", name)
            self.nodes[name] = self._running(*command)
        for name in names:
            self.nodes[name].wait_ready()
        until(lambda: all(set(names) <= names_at(each) for each in self.registries))

    def stop(self, *names: str) -> None:
        """Sends SIGTERM, and waits for the end."""
        for name in names:
            self.nodes[name].terminate()
        for name in names:
            status, _, log = self.nodes.pop(name).end()
            assert status == 0, log
            self.logs.append(log)

    def kill(self, name: str) -> None:
        """Sends SIGKILL."""
        self.nodes.pop(name).process.kill()

    def restart_registry(self, number: int) -> None:
        """Kills a registry and starts it anew; it is ready, and may know nobody yet."""
        self.registries[number].process.kill()
        self.registries[number].process.wait()
        self.registries[number] = self._registry(self._ports[number]).wait_ready()

    def answered(self) -> int:
        """How many images the nodes have classified, the stopped ones too."""
        logs = self.logs + [node.log for node in self.nodes.values()]
        return sum(
            event["method"] == "POST" and event["status"] == 200
            for log in logs
            for event in records(log)
            if "status" in event
        )

    def classified(self) -> float:
        """How many images the nodes have classified, as they count them themselves."""
        return sum(
            sample.value
            for node in self.nodes.values()
            for family in text_string_to_metric_families(ask(f"{node.url}metrics").body.decode())
            for sample in family.samples
            if sample.name == "smls_requests_total" and sample.labels["code"] == "ok"
        )

    def _registry(self, port: int) -> Running:
        return self._running("smls-registry", *at_port(port), *JSON)

    def _running(self, *command: object) -> Running:
        program, *arguments = command
        running = Running(str(program), *arguments)
        self._stack.callback(running.close)
        return running


@contextmanager
def town(light: tuple[object, ...], *names: str, registries: int = 1) -> Iterator[Town]:
    with ExitStack() as stack:
        here = Town(stack, light, registries)
        here.start(*names)
        yield here


def names(client: smls.BlockingClient) -> set[str]:
    """The names of the nodes that a client knows."""
    return {node.name for node in client.nodes()}


def load_of(client: smls.BlockingClient) -> AbstractContextManager[Load]:
    """Calls all the time, and a core left for nodes that start."""
    return Load(client, callers=4, pause=0.02).running()


def test_registries_that_restart_under_load_lose_no_node(light: tuple[object, ...]) -> None:
    everybody = {"one", "two", "three"}
    with (
        town(light, *everybody, registries=2) as here,
        smls.BlockingClient(*here.urls) as client,
        load_of(client) as load,
    ):
        load.answered(3, *everybody)
        for restarted in ((0,), (1,), (0, 1)):
            for number in restarted:
                here.restart_registry(number)
            while any(names_at(each) != everybody for each in here.registries):
                assert names(client) == everybody
            load.answered(3, *everybody)
            assert names(client) == everybody
        # They are watched again, too.
        here.start("four")
        until(lambda: names(client) == {*everybody, "four"})
        load.answered(3, "four")
    assert load.failures == []


def test_a_client_that_starts_with_its_registry_finds_the_nodes(light: tuple[object, ...]) -> None:
    with town(light, "one", "two") as here:
        for _ in range(2):
            here.restart_registry(0)
            with smls.BlockingClient(*here.urls, cache=False) as cold:
                assert cold.classify(THREE).predictions[0].label == "3"


def test_with_all_registries_dead_clients_start_from_their_cache(
    light: tuple[object, ...], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with town(light, "one", "two", registries=2) as here:
        options = [word for url in here.urls for word in ("--registry", url)]
        with smls.BlockingClient(*here.urls, cache=cache, balancer="round-robin") as client:
            until(lambda: names(client) == {"one", "two"})
            assert run("smls-client", *options, "nodes").returncode == 0
            for registry in here.registries:
                registry.process.kill()
                registry.process.wait()
            assert {client.classify(THREE).node for _ in range(4)} == {"one", "two"}
        with smls.BlockingClient(*here.urls, cache=cache, balancer="round-robin") as cold:
            assert {cold.classify(THREE).node for _ in range(4)} == {"one", "two"}
            here.kill("one")
            assert {cold.classify(THREE).node for _ in range(4)} == {"two"}
        with (
            smls.BlockingClient(*here.urls, cache=False) as without,
            pytest.raises(smls.RegistryUnavailable, match="refused the connection"),
        ):
            without.classify(THREE)
        done = run("smls-client", *options, "classify", "--json", THREE)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["node"] == "two"


def test_an_image_is_classified_twice_where_it_was_hedged_alone(light: tuple[object, ...]) -> None:
    three = ["one", "two", "three"]
    with town(light, *three) as here:
        with smls.BlockingClient(*here.urls) as client, load_of(client) as load:
            load.answered(5, *three)
        assert load.failures == []
        before = load.answers.total()
        until(lambda: here.classified() >= before)
        assert here.classified() == before

        policy = Watched()
        with smls.BlockingClient(*here.urls, balancer=policy, hedge=True) as client:
            answers = [client.classify(THREE) for _ in range(20)]

            def asked() -> None:
                answers.append(client.classify(THREE))
                assert all(outcome is not Outcome.FAILED for _, outcome in policy.outcomes)

            def passed() -> bool:
                asked()
                return ("one", Outcome.CANCELLED) in policy.outcomes

            def paid() -> bool:
                asked()
                return policy.cancelled <= HEDGE_FRACTION * len(answers)

            # What was late on a busy machine is paid for first.
            until(paid)
            slow = here.nodes["one"].process
            slow.send_signal(signal.SIGSTOP)
            try:
                # Without a hedge such a call takes half of its time and ends as a failure.
                until(passed)
                assert answers[-1].node != "one"
            finally:
                slow.send_signal(signal.SIGCONT)
        assert len(policy.outcomes) == len(answers) + policy.cancelled
        again = here.classified() - before - len(answers)
        assert 0 <= again <= policy.cancelled


def test_a_rolling_restart_of_ten_nodes_under_load_loses_nothing(light: tuple[object, ...]) -> None:
    ten = [f"node-{number}" for number in range(10)]
    with town(light, *ten) as here:
        with smls.BlockingClient(*here.urls) as client, load_of(client) as load:
            load.answered(1, *ten)
            for pair in zip(ten[::2], ten[1::2], strict=True):
                here.stop(*pair)
                here.start(*pair)
                load.answered(1, *pair)
        assert load.failures == []
        # Each image that was answered was classified once.
        until(lambda: here.answered() >= load.answers.total())
        assert here.answered() == load.answers.total()


def test_nodes_killed_at_random_under_load_fail_no_call(light: tuple[object, ...]) -> None:
    chance = random.Random(4)
    everybody = ["one", "two", "three", "four"]
    with (
        town(light, *everybody) as here,
        smls.BlockingClient(*here.urls) as client,
        load_of(client) as load,
    ):
        load.answered(3, *everybody)
        for _ in range(2):
            victims = chance.sample(everybody, chance.randint(1, 3))
            for victim in victims:
                here.kill(victim)
            until(lambda: names(client) == set(here.nodes))
            load.answered(5, *here.nodes)
            here.start(*victims)
            load.answered(1, *everybody)
    assert load.failures == []
