# SPDX-License-Identifier: MIT
"""A node that turns slow: its registry hears of it, and a hedge goes past it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

import smls
from smls.balancer import Outcome
from smls.budget import HEDGE_FRACTION
from smls_node import tuning
from smls_node.arrangement import Arrangement
from smls_node.runtimes import GraphFiles
from tests.integration.fleet import Watched, ask, classify, names_at
from tests.integration.graphs import write_constant, write_lazy
from tests.node.memory import image
from tests.processes import LOCAL, Running, running, running_all, until

pytest.importorskip("tensorflow")

DARK, BRIGHT = image(brightness=0), image(brightness=255)

ONE_RUN = ("--operator-threads", "1", "--runs", "1")


def models(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options of one model in two forms: one takes two seconds for a bright image."""
    for name in ("lazy", "quick"):
        (folder / name).mkdir()
    lazy = write_lazy(folder / "lazy", "brightness", rounds=200)
    return lazy, write_constant(folder / "quick", "brightness", [1, 2, 3])


def counted(node: Running, code: str) -> float:
    """How many images had that outcome at the node, as it counts them itself."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(ask(f"{node.url}metrics").body.decode())
        for sample in family.samples
        if sample.name == "smls_requests_total" and sample.labels["code"] == code
    )


@contextmanager
def busy(node: Running, callers: int) -> Iterator[list[int]]:
    """So many keep the node busy with a bright image each; the statuses of what they got."""
    statuses: list[int] = []

    def call() -> None:
        statuses.append(classify(node.url, BRIGHT).status)

    threads = [Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        for thread in threads:
            thread.join()


def in_flight(node: Running) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(ask(f"{node.url}metrics").body.decode())
        for sample in family.samples
        if sample.name == "smls_in_flight_rows"
    )


def test_what_waits_at_a_slow_node_is_answered_by_another_and_not_run(tmp_path: Path) -> None:
    lazy, quick = models(tmp_path)
    with running("smls-registry", *LOCAL) as registry:
        common = ("smls-node", *LOCAL, *ONE_RUN, "--max-batch-size", 1, "--registry", registry.url)
        with running_all(
            (*common, "--node-name", "one", *lazy),
            (*common, "--node-name", "two", *quick),
        ) as (one, two):
            until(lambda: names_at(registry) == {"one", "two"})
            policy = Watched()
            with smls.BlockingClient(registry.url, balancer=policy, hedge=True) as client:
                answers = [client.classify(DARK).node for _ in range(40)]
                # What was late on a busy machine is paid for first: else the call that waits for
                # the slow one is not hedged.
                until(lambda: _both(answers, client) and _has_paid(answers, policy))
                policy.outcomes.clear()
                before = counted(one, "ok"), counted(two, "ok")
                with busy(one, callers=4) as statuses:
                    until(lambda: in_flight(one) == 4)
                    answers = []

                    def passed() -> bool:
                        assert len(statuses) < 4, "the slow node was not asked while it was slow"
                        answers.append(client.classify(DARK).node)
                        return ("one", Outcome.CANCELLED) in policy.outcomes

                    until(passed)
                    assert answers[-1] == "two"
                    assert in_flight(one) > 0
                assert statuses == [200] * 4
                at_one = answers.count("one")
                cancelled = policy.outcomes.count(("one", Outcome.CANCELLED))
                lost = policy.outcomes.count(("two", Outcome.CANCELLED))
                assert all(outcome is not Outcome.FAILED for _, outcome in policy.outcomes)
                # Each image is counted: what waited behind the slow ones was cancelled, not run.
                until(lambda: counted(one, "cancelled") >= cancelled)
                assert counted(one, "ok") - before[0] == 4 + at_one
                assert 0 <= counted(two, "ok") - before[1] - (len(answers) - at_one) <= lost


def _has_paid(answers: list[str], policy: Watched) -> bool:
    return policy.cancelled <= HEDGE_FRACTION * len(answers)


def _both(answers: list[str], client: smls.BlockingClient) -> bool:
    """Whether both were asked of late: one that was late by accident is hardly asked then."""
    answers.append(client.classify(DARK).node)
    return set(answers[-20:]) == {"one", "two"}


def test_a_registry_hears_that_a_node_is_slow_while_it_is_and_clients_go_elsewhere(
    tmp_path: Path,
) -> None:
    lazy, quick = models(tmp_path)
    found = Arrangement(1, 1, 1, anchors=((1, 0.01), (8, 0.02)), why="as a test says")
    for _, graph, *_ in (lazy, quick):
        tuning.keep(found, tuning.place_of(GraphFiles(Path(graph)), tmp_path))
    with running("smls-registry", *LOCAL) as registry:
        common = ("smls-node", *LOCAL, "--findings", tmp_path, "--registry", registry.url)
        with (
            running_all(
                (*common, "--node-name", "one", *lazy),
                (*common, "--node-name", "two", *quick),
            ) as (one, _),
            smls.BlockingClient(registry.url) as client,
        ):
            until(lambda: names_at(registry) == {"one", "two"})

            def capacity() -> float:
                (node,) = [each for each in client.nodes("brightness") if each.name == "one"]
                return node.models[0].capacity

            answers: list[str] = []
            until(lambda: _both(answers, client) and capacity() == 400)
            with busy(one, callers=1) as statuses:
                until(lambda: capacity() < 200)
                assert statuses == []  # it has told while its batch still ran
                assert {client.classify(DARK).node for _ in range(10)} == {"two"}
            assert statuses == [200]
            # One dark image may be late too, where the machine has other things to do.
            until(lambda: classify(one.url, DARK).status == 200 and capacity() == 400)
