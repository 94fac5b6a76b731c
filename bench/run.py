# SPDX-License-Identifier: MIT
"""One run of the benchmark: everything is kept up, and the load goes round, round after round.

Interleaving matters more than long runs: a shared machine's speed drifts over minutes, and what
is measured side by side drifts alike.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import environments, limit, load, models, processes, readiness, servers
from bench.limit import FULL, Arrangement
from bench.models import Model
from bench.places import (
    CACHE,
    CHOICES,
    FINDINGS,
    MODELS,
    PEERS,
)

TRIAL_SECONDS = 2
NODE_STARTS = 3
"""A node's first start may have more to do (it finds its arrangement); the later ones are timed."""

DISTURBED, TRIES = 0.25, 3
"""Where something else takes more of a core than that under a load, the load is repeated; of so
many the one that was disturbed least counts."""

TURNS = 8
"""How often each connection should have its turn in one load."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    models: Sequence[str]
    servers: Sequence[str]
    """Names, or beginnings of names; none: all."""
    rounds: int
    seconds: float
    minutes: float
    """No further round begins where the run would take longer."""
    trial: bool
    """Whether each peer's ways to start are tried; else the first one is taken."""
    retry: bool
    """Whether they are tried again where a choice is remembered."""


def run(plan: Plan) -> dict[str, Any]:
    """Measures and returns everything, as it goes to the result file.

    :raises load.NoWrk: where wrk is not installed.
    """
    load.find_wrk()
    readiness.prepare_images()
    environments.compile_own()
    chosen = [each for each in (*servers.nodes(), *servers.peers()) if _wanted(each.name, plan)]
    begun = time.monotonic()
    results: dict[str, Any] = {
        "machine": readiness.machine(),
        "plan": asdict(plan),
        "busy_at_start": processes.machine_busy(),
        "models": {},
    }
    if results["busy_at_start"] > 0.1:
        print(f"note: {results['busy_at_start']:.0%} of the cores are busy with something else")
    networks = [models.model(name) for name in plan.models]
    _forget()
    homes = {each.name: readiness.environment(each) for each in chosen}
    prepared = time.monotonic() - begun
    for index, network in enumerate(networks):
        # What is left is shared out evenly; setting up is not counted.
        gone = time.monotonic() - begun - prepared
        share = (plan.minutes * 60 - gone) / (len(networks) - index)
        results["models"][network.name] = _measure(network, chosen, homes, plan, share)
    results["seconds"] = time.monotonic() - begun
    return results


def _forget() -> None:
    """Deletes what nodes found out in earlier runs: a busy machine may have misled them."""
    shutil.rmtree(FINDINGS, ignore_errors=True)
    for proof in MODELS.glob("*/*.proof.json"):
        proof.unlink()


def _measure(
    model: Model,
    chosen: list[servers.Server],
    homes: dict[str, Path | str | None],
    plan: Plan,
    share: float,
) -> dict[str, Any]:
    begun = time.monotonic()
    CACHE.mkdir(exist_ok=True)
    print(f"\n{model.title}: the in-process limit", flush=True)
    found = limit.search(model, 1.0)
    result: dict[str, Any] = {
        "title": model.title,
        "graph": model.digest(),
        "concurrencies": model.concurrencies,
        "limit": {
            "cells": found.cells,
            "cores": processes.cores(),
            "decoder": found.decoder,
            "plain": found.plain,
            "best": asdict(found.best()),
            "start_seconds": found.bare.start_seconds,
            "rounds": [],
        },
        "servers": {},
        "rounds": [],
    }
    print(f"    {found.best()}, {found.decoder}: {found.cells[0]['per_second']:.0f} images/s")
    running: list[servers.Running] = []
    try:
        reference = found.children[1].answers()
        for server in chosen:
            record: dict[str, Any] = {}
            result["servers"][server.name] = record
            up = _start(server, model, homes[server.name], found, plan, record)
            if up is None:
                continue
            try:
                with up.awake():
                    record["check"] = servers.check(up, reference)
            except (servers.WrongAnswer, OSError) as error:
                record["error"] = f"wrong answer: {error}"
                print(f"    {server.name}: {record['error'][:300]}")
                up.stop()
                continue
            running.append(up)
        longest = 0.0
        for number in range(plan.rounds):
            before = time.monotonic()
            if number and before - begun + longest > share:
                print(f"    only {number} rounds: the time is over")
                break
            result["rounds"].append(_round(number, running, found, model, plan, result))
            longest = max(longest, time.monotonic() - before)
        for up in running:
            record = result["servers"][up.server.name]
            record["memory_mb"] = up.memory_mb()
            _check_again(up, reference, record)
        result["limit"]["memory_mb"] = found.bare.memory_mb()
    finally:
        for up in running:
            up.stop()
        found.stop()
    return result


def _start(
    server: servers.Server,
    model: Model,
    home: Path | str | None,
    found: limit.Found,
    plan: Plan,
    record: dict[str, Any],
) -> servers.Running | None:
    """The server after its first answers; None where it cannot be had, said in ``record``."""
    if isinstance(home, str):
        record["error"] = home
        return None
    record["versions"] = readiness.versions(server, home)
    try:
        began = time.monotonic()
        told = servers.prepare(server, model)
        if told:
            record["before"] = {"seconds": time.monotonic() - began, "printed": told}
        variant = _choose(server, model, home, found, plan, record)
        record["variant"] = variant.name
        record["starts"] = []
        for _ in range(NODE_STARTS if server.is_ours else 1):
            up = _running(server, model, variant, home, found)
            record["starts"].append(up.start_seconds)
            if len(record["starts"]) < NODE_STARTS and server.is_ours:
                up.stop()
    except servers.CannotStart as error:
        record["error"] = str(error)
        print(f"    {server.name}: {str(error)[-300:]}", flush=True)
        return None
    load.drive(up.url, load.bodies(model, server.body), model.busiest, 1)
    processes.settle(up.process.pid)
    up.idle_share = processes.idle_share(up.process.pid)
    record["idle_share"] = up.idle_share
    print(f"    {server.name}: up in {record['starts'][-1]:.1f} s, {variant.name}", flush=True)
    return up


def _choose(
    server: servers.Server,
    model: Model,
    home: Path | None,
    found: limit.Found,
    plan: Plan,
    record: dict[str, Any],
) -> servers.Variant:
    """The variant that serves most requests a second in a short trial, or did so last time."""
    if len(server.variants) == 1:
        return server.variants[0]
    choices = json.loads(CHOICES.read_text()) if CHOICES.exists() else {}
    key = f"{server.name} {model.name} {_fingerprint(server, model)}"
    names = {variant.name: variant for variant in server.variants}
    if key in choices and not plan.retry:
        record["trial"] = choices[key]
    elif not plan.trial:
        return server.variants[0]
    else:
        record["trial"] = {}
        for variant in server.variants:
            try:
                with _briefly(server, model, variant, home, found) as up:
                    requests = load.bodies(model, server.body)
                    load.drive(up.url, requests, model.busiest, 1)
                    processes.settle(up.process.pid)
                    run = load.drive(up.url, requests, model.busiest, TRIAL_SECONDS)
                rate = 0.0 if run.errors else run.per_second
            except servers.CannotStart as error:
                print(f"    {server.name}, {variant.name}: {str(error)[-300:]}")
                rate = 0.0
            record["trial"][variant.name] = rate
        choices[key] = record["trial"]
        CHOICES.write_text(json.dumps(choices, indent=1))
    return names[max(record["trial"], key=lambda name: record["trial"][name])]


def _running(
    server: servers.Server,
    model: Model,
    variant: servers.Variant,
    home: Path | None,
    found: limit.Found,
) -> servers.Running:
    best = found.best(batch=1)
    return servers.Running(server, model, variant, home, (best.intra_op, best.callers))


@contextmanager
def _briefly(
    server: servers.Server,
    model: Model,
    variant: servers.Variant,
    home: Path | None,
    found: limit.Found,
) -> Iterator[servers.Running]:
    up = _running(server, model, variant, home, found)
    try:
        yield up
    finally:
        up.stop()


def _round(
    number: int,
    running: list[servers.Running],
    found: limit.Found,
    model: Model,
    plan: Plan,
    result: dict[str, Any],
) -> dict[str, Any]:
    print(f"    round {number + 1}", flush=True)
    stolen, slow = processes.stolen_seconds(), processes.slowness()
    # Each round begins with another one, so that none always follows the same neighbour.
    turn = number % len(running) if running else 0
    loads: dict[str, dict[int, dict[str, Any]]] = {}
    result["limit"]["rounds"].append(_limit_round(found, model, plan.seconds))
    for up in running[turn:] + running[:turn]:
        requests = load.bodies(model, up.server.body)
        runs = loads[up.server.name] = {}
        with up.awake():
            for connections in model.concurrencies:
                seconds = _long_enough(connections, found, plan.seconds)
                runs[connections] = _calm_load(up, requests, connections, seconds)
        busiest = runs[model.busiest]
        print(
            f"        {up.server.name}: {busiest['per_second']:.0f}/s at {model.busiest}, "
            f"p50 {busiest['p50']:.1f} ms, p99 {busiest['p99']:.1f} ms, "
            f"{sum(each['errors'] for each in runs.values())} errors",
            flush=True,
        )
    return {
        "loads": loads,
        "stolen_seconds": processes.stolen_seconds() - stolen,
        "slowness_ms": [slow, processes.slowness()],
    }


def _long_enough(connections: int, found: limit.Found, seconds: float) -> float:
    """Longer for a large network, or the requests that the end cuts off would weigh too much."""
    turns = TURNS * connections / float(found.cells[0]["per_second"])
    return min(max(seconds, turns), 2.5 * seconds)


def _calm_load(
    up: servers.Running, requests: load.Bodies, connections: int, seconds: float
) -> dict[str, Any]:
    """One load that nothing else disturbed, as far as ``TRIES`` give one."""
    tried: list[dict[str, Any]] = []
    while len(tried) < TRIES and all(each["other_cores"] > DISTURBED for each in tried):
        tried.append(_one_load(up, requests, connections, seconds))
    # What it still has to do must not be counted against the next one.
    up.settle()
    return min(tried, key=lambda each: float(each["other_cores"]))


def _one_load(
    up: servers.Running, requests: load.Bodies, connections: int, seconds: float
) -> dict[str, Any]:
    """One load, with the processor time that it took: the server's, wrk's, and the others'."""

    def spent() -> tuple[float, float, float, float]:
        return (
            time.monotonic(),
            processes.busy_seconds(),
            processes.cpu_seconds(up.process.pid),
            processes.children_seconds(),
        )

    before = spent()
    measured = load.drive(up.url, requests, connections, seconds)
    wall, busy, server, client = (
        after - first for after, first in zip(spent(), before, strict=True)
    )
    return asdict(measured) | {
        "server_cpu_ms": server * 1e3 / max(1, measured.requests),
        "client_cores": client / wall,
        "other_cores": max(0.0, busy - server - client) / wall,
    }


def _limit_round(found: limit.Found, model: Model, seconds: float) -> dict[str, Any]:
    """The in-process figures of one round; a part of the time for each."""
    best, decoder = found.best(), found.decoder

    def ask(what: str, each: Arrangement, part: float, decoder: str = decoder) -> dict[str, float]:
        child = found.children[each.intra_op]
        return child.run(what, seconds * part, each.callers, each.batch, decoder)

    bare = found.bare.run("both", seconds * 0.5, best.callers, best.batch, found.plain)
    alone = {intra_op: Arrangement(intra_op, 1, 1) for intra_op in found.children}
    single = {intra_op: ask("both", each, 0.3) for intra_op, each in alone.items()}
    figures: dict[str, Any] = {
        "both": ask("both", best, 0.75),
        "bare": bare,
        "both_full_decode": ask("both", best, 0.75, FULL),
        "infer": ask("infer", best, 0.5),
        "decode": {
            name: ask("decode", Arrangement(best.intra_op, best.callers, 1), 0.25, name)
            for name in found.children[1].decoders()
        },
        "one_caller_p50": min(each["p50"] for each in single.values()),
        "one_core_infer_ms": ask("infer", alone[1], 0.3)["p50"],
        "one_core_decode_ms": ask("decode", alone[1], 0.3)["p50"],
    }
    print(f"        in process: {figures['both']['per_second']:.0f}/s", flush=True)
    return figures


def _check_again(
    up: servers.Running, reference: list[servers.Answer], record: dict[str, Any]
) -> None:
    try:
        with up.awake():
            record["check_after"] = servers.check(up, reference)
    except (servers.WrongAnswer, OSError) as error:
        record["error"] = f"wrong answer after the load: {error}"


def _fingerprint(server: servers.Server, model: Model) -> str:
    assert server.directory is not None
    parts = [model.digest(), str(processes.cores())]
    files = sorted(file for file in server.directory.iterdir() if file.is_file())
    parts += [file.read_text() for file in (*files, PEERS / "label_image.py")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _wanted(name: str, plan: Plan) -> bool:
    return not plan.servers or any(name.lower().startswith(each.lower()) for each in plan.servers)
