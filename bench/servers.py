# SPDX-License-Identifier: MIT
"""The servers that are compared: how each is started, asked, checked and stopped.

A peer is a directory in ``peers``: ``peer.toml`` says how it is started, ``requirements.txt`` what
is installed, and the rest is its adapter. Our node is started as a user would, with no knob.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import environments, processes
from bench.load import body
from bench.models import Model
from bench.places import CACHE, FINDINGS, LOGS, PEERS

START_SECONDS = 120.0
"""How long a server may take to its first answer."""

POLL_SECONDS = 0.01

WORKS_WHEN_IDLE = 0.02
"""Part of a core from which on a server that nobody asks is paused; the clock ticks at 0.01."""

Answer = list[tuple[str, float]]


class CannotStart(Exception):
    """A server gave no answer; the message is the end of its log."""


class WrongAnswer(Exception):
    """A server's answer is not what the graph gives."""


@dataclass(frozen=True)
class Variant:
    """One way to start a server: further options, variables, and operator threads."""

    name: str
    options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    intra_op: int | None = None
    """Operator threads where they are not those of the in-process limit's best arrangement."""


@dataclass(frozen=True)
class Server:
    """What to start and how to ask it."""

    name: str
    command: tuple[str, ...]
    path: str
    body: str
    variants: tuple[Variant, ...]
    directory: Path | None = None
    """The peer's directory; None for our node."""
    before: tuple[str, ...] = ()
    """A command to run once before the first start."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a node of smls."""
        return self.directory is None


@dataclass(frozen=True)
class Node:
    """A variant of our node: the options beyond the model, and what a user runs once before."""

    name: str
    options: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


NODES = (
    Node("smls"),
    Node(
        "smls accelerated",
        ("--accelerate", "auto"),
        ("accelerate", "{graph}", "--images", "{images}", "--within", "0.25"),
    ),
)
"""Add a line to compare another variant. One whose options the installed node does not know is
left out."""


def nodes() -> list[Server]:
    """The variants of our node that the installed ``smls-node`` knows."""
    program = str(Path(sys.executable).parent / "smls-node")
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    command = (
        program,
        *("--graph", "{graph}", "--labels", "{labels}"),
        *("--port", "0", "--host", "127.0.0.1", "--no-mdns"),
    )
    return [
        Server(
            node.name,
            (*command, *node.options),
            "/classify",
            "form",
            (Variant(" ".join(node.options) or "no knob"),),
            before=(program, *node.before) if node.before else (),
        )
        for node in NODES
        if all(option in told for option in node.options if option.startswith("--"))
    ]


def started_so(node: Server, name: str, before: str, options: Sequence[str] = ()) -> Server:
    """The same node with more options, by a program that does something ``before`` it starts."""
    program = f"{before or 'pass'}; from smls_node.tap import main; main()"
    command = (sys.executable, "-c", program, *node.command[1:], *options)
    return replace(node, command=command, name=f"smls {name}")


def prepare(server: Server, model: Model) -> str:
    """Does what a user does once, before the first start; returns what that printed.

    :raises CannotStart: where it fails.
    """
    if not server.before:
        return ""
    places = {"graph": model.graph, "labels": model.labels, "images": model.images}
    done = subprocess.run(
        [_filled(part, places) for part in server.before],
        capture_output=True,
        text=True,
        env=_variables(),
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise CannotStart(done.stderr.strip()[-600:])
    return done.stdout


def peers() -> list[Server]:
    """All peers that have a directory."""
    found = []
    for file in sorted(PEERS.glob("*/peer.toml")):
        told = tomllib.loads(file.read_text())
        variants = tuple(
            Variant(
                each["name"],
                tuple(each.get("options", ())),
                each.get("variables", {}),
                each.get("intra_op"),
            )
            for each in told["variant"]
        )
        found.append(
            Server(
                told["name"],
                tuple(told["command"]),
                told["path"],
                told["body"],
                variants,
                file.parent,
            )
        )
    return found


class Running:
    """A server that has given its first answer, ``start_seconds`` after its start."""

    def __init__(
        self,
        server: Server,
        model: Model,
        variant: Variant,
        environment: Path | None = None,
        threads: tuple[int, int] = (0, 2),
    ) -> None:
        """Starts it and waits for its first answer.

        :param environment: the peer's virtual environment.
        :param threads: operator threads and callers for one process (see ``limit.Arrangement``).
        :raises CannotStart: where it ends, or does not answer in time.
        """
        self.server = server
        self.variant = variant
        self.model = model
        self.idle_share = 0.0
        ports = free_ports(3)
        python = environment or Path(sys.executable).parent.parent
        places = {
            "bin": str(python / "bin"),
            "graph": model.graph,
            "labels": model.labels,
            "port": str(ports[0]),
            "port2": str(ports[1]),
            "port3": str(ports[2]),
            "cores": str(processes.cores()),
        }
        command = [_filled(part, places) for part in (*server.command, *variant.options)]
        variables = _variables()
        if not server.is_ours:
            variables |= _told_to_adapter(model, variant, threads, places)
        LOGS.mkdir(parents=True, exist_ok=True)
        plain = re.sub(r"[^a-z0-9]+", "-", f"{server.name} {model.name}".lower())
        self.log = LOGS / f"{plain}.log"
        start = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=server.directory or CACHE,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.url = self._find_url(start, ports[0])
            self._first_answer(start)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - start

    def ask(self, image: Path, timeout: float = 60.0) -> Answer:
        """The answer to one image.

        :raises WrongAnswer: where the status is not 200.
        :raises OSError, http.client.HTTPException: where the server cannot be talked to.
        """
        parts = urlsplit(self.url)
        content_type, data = body(self.server.body, image.read_bytes())
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
        try:
            connection.request("POST", parts.path, data, {"Content-Type": content_type})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise WrongAnswer(f"status {response.status}: {text[:300]!r}")
        return _read_answer(text)

    def memory_mb(self) -> float:
        """What the process tree takes now; see ``processes.memory_mb``."""
        return processes.memory_mb(self.process.pid)

    def settle(self) -> None:
        """Waits until it is done with what it was asked, as far as it ever rests."""
        if self.idle_share <= WORKS_WHEN_IDLE:
            processes.settle(self.process.pid)

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """While it has its turn. One that works even when idle is stopped at the end, until the
        next turn."""
        restless = self.idle_share > WORKS_WHEN_IDLE
        if restless:
            processes.resume(self.process.pid)
            time.sleep(0.3)
        try:
            yield
        finally:
            if restless:
                processes.pause(self.process.pid)

    def stop(self) -> None:
        """Ends it with all its processes."""
        processes.end(self.process)

    def _find_url(self, start: float, port: int) -> str:
        if not self.server.is_ours:
            return f"http://127.0.0.1:{port}{self.server.path}"
        while True:
            match = re.search(rb"ready at (http://[^/ ]+)/", self.log.read_bytes())
            if match:
                return match[1].decode() + self.server.path
            self._check_alive(start)
            time.sleep(POLL_SECONDS)

    def _first_answer(self, start: float) -> None:
        image = self.model.image_files()[0]
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, WrongAnswer):
                self.ask(image)
                return
            self._check_alive(start)
            time.sleep(POLL_SECONDS)

    def _check_alive(self, start: float) -> None:
        status = self.process.poll()
        if status is None and time.monotonic() - start < START_SECONDS:
            return
        reason = "no answer in time" if status is None else f"ended with status {status}"
        tail = self.log.read_bytes()[-600:].decode(errors="replace")
        raise CannotStart(f"{reason}: {tail}")


def check(running: Running, reference: list[Answer], images: int = 8) -> dict[str, Any]:
    """Asks for a few images and compares with the graph's own answers.

    Decoders differ by a few grey levels, so a network's scores differ a little as well.
    Returns the greatest difference of a first label's score, and how many first labels agree.

    :raises WrongAnswer: where an answer is no sane top five, a trained network gives a wrong
        label, or the first label is not among the graph's own five.
    """
    model = running.model
    labels = set(Path(model.labels).read_text().splitlines())
    agree, difference = 0, 0.0
    for index, image in list(enumerate(model.image_files()))[:images]:
        answer, wanted = running.ask(image), reference[index]
        scores = [score for _, score in answer]
        names = [label for label, _ in answer]
        sane = (
            len(answer) == 5
            and len(set(names)) == 5
            and set(names) <= labels
            and scores == sorted(scores, reverse=True)
            and all(0 <= score <= 1.0001 for score in scores)
        )
        if not sane:
            raise WrongAnswer(f"{image.name}: no top five: {answer}")
        if names[0] not in [label for label, _ in wanted]:
            raise WrongAnswer(f"{image.name}: got {answer}, the graph gives {wanted}")
        if model.answers and wanted[0][0] == model.answers[index] != names[0]:
            raise WrongAnswer(f"{image.name}: got {names[0]}, wanted {model.answers[index]}")
        agree += names[0] == wanted[0][0]
        difference = max(difference, abs(scores[0] - dict(wanted)[names[0]]))
    return {"images": images, "first_label_agrees": agree, "score_difference": difference}


def _variables() -> dict[str, str]:
    """The environment of all servers. What a node finds out it keeps apart from the user's own."""
    return environments.variables() | {"XDG_CACHE_HOME": str(FINDINGS)}


def _told_to_adapter(
    model: Model, variant: Variant, threads: tuple[int, int], places: dict[str, str]
) -> dict[str, str]:
    intra_op, callers = threads
    told = {
        "BENCH_GRAPH": model.graph,
        "BENCH_LABELS": model.labels,
        "BENCH_INPUT": model.input_layer,
        "BENCH_OUTPUT": model.output_layer,
        "BENCH_SIDE": str(model.side),
        "BENCH_PORT": places["port"],
        "BENCH_INTRA_OP": str(intra_op if variant.intra_op is None else variant.intra_op),
        "BENCH_INTER_OP": str(max(2, callers)),
        "PYTHONPATH": str(PEERS),
        "PATH": f"{places['bin']}{os.pathsep}{os.environ['PATH']}",
        # No peer calls home from a benchmark.
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(CACHE / "bentoml"),
    }
    return told | {key: _filled(value, places) for key, value in variant.variables.items()}


def _filled(text: str, places: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: places[match[1]], text)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _read_answer(text: bytes) -> Answer:
    """From ``{"predictions": [{"label", "score"}]}``, a list of one, or a string in a V2 output."""
    try:
        value = json.loads(text)
        if isinstance(value, list):
            value = value[0]
        if "outputs" in value:
            value = json.loads(value["outputs"][0]["data"][0])
        return [(each["label"], each["score"]) for each in value["predictions"]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise WrongAnswer(f"got {text[:300]!r}") from error
