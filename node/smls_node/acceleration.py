# SPDX-License-Identifier: MIT
"""The proof that another engine gives the same answers, and which one is the fastest. Pure,
but for reading and writing the proof's file.

The TensorFlow session is the measure. An engine is taken for a graph only where its answers to
sample images were held against the session's: the best label is the same for nearly all of them,
and no score differs by more than a bound. A lower precision is tried only where the operator has
asked for it. The proof holds for the bytes of the graph, the way that it is fed, and the kind of
machine; with it a node needs no TensorFlow to start.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen
from twisted.logger import Logger

from smls_node import machine
from smls_node.arrangement import Arrangement
from smls_node.formats import COMPILED, PROOF, QUANTIZED
from smls_node.kept import Kept
from smls_node.runtimes import GraphFiles

AGREEMENT = 0.995
"""The part of the sample images whose best label must be the session's."""

WITHIN = {"f32": 0.001, "bf16": 0.05, "i8": 0.05}
"""How far a score (0-1) may be from the session's, at most, by the precision, where the operator
states no other bound."""

SESSION = "tensorflow"

SESSION_PAYS = 1.1
"""So many times the images a second of OpenVINO make the session worth its import, its start and
three times the memory; and what differs by less is not known to differ."""

log = Logger()


@frozen
class Trial:
    """How an engine did. ``agreement`` is a part of 1, ``difference`` the largest of all scores,
    and ``within`` what it may be.

    ``seconds`` are pairs of a batch's size and its seconds; ``problem`` says why it was not run.
    """

    engine: str
    precision: str
    one_by_one: bool
    runs: int
    images_per_second: float = 0.0
    agreement: float = 0.0
    difference: float = 1.0
    seconds: tuple[tuple[int, float], ...] = ()
    problem: str = ""
    within: float = WITHIN["f32"]

    @property
    def passed(self) -> bool:
        """Whether the answers are the session's, within the bounds."""
        return not self.problem and self.agreement >= AGREEMENT and self.difference <= self.within

    @property
    def name(self) -> str:
        how = ", one by one" if self.one_by_one else ""
        return f"{self.engine} {self.precision}{how}"

    @property
    def how(self) -> dict[str, Any]:
        """What ``runtimes.openvino.load`` is given for it."""
        return {
            "precision": self.precision,
            "streams": self.runs,
            "one_by_one": self.one_by_one,
        }

    def arrangement(self, why: str) -> Arrangement:
        """The way of running the model that the trial has measured.

        OpenVINO runs it in threads of its own, and whoever asks for a run only waits: one worker
        more than there are runs decodes meanwhile, but where that is as quick as the model.
        """
        alone = Arrangement(1, self.runs, self.runs, self.seconds, why)
        return alone if alone.is_quick else evolve(alone, workers=self.runs + 1)


@frozen
class Proof:
    """What was found for the graph and machine that ``key`` stands for.

    ``samples`` says how many images were used and whose.
    """

    key: str
    samples: str
    trials: tuple[Trial, ...]

    def chosen(self, engine: str | None = None) -> Trial:
        """The first of ``ranked``."""
        return self.ranked(engine)[0]

    def ranked(self, engine: str | None = None) -> list[Trial]:
        """The trials that passed, the fastest first, with the session after what is as good; but
        those of ``engine`` before all others."""

        def worth(trial: Trial) -> tuple[bool, float]:
            pays = SESSION_PAYS if trial.engine == SESSION else 1.0
            return trial.engine == engine, trial.images_per_second / pays

        return sorted((trial for trial in self.trials if trial.passed), key=worth, reverse=True)

    def why(self) -> str:
        """The trials in a line, for the log and the status."""
        found = ", ".join(
            f"{trial.name}: {trial.problem}"
            if trial.problem
            else f"{trial.name}: {trial.images_per_second:.4g} images a second, "
            f"{trial.agreement:.2%} agree, scores within {trial.difference:.2g}"
            for trial in self.trials
        )
        return f"proven on {self.samples}: {found}"


def key_of(files: GraphFiles) -> str:
    """16 hexadecimal digits for a graph's bytes, how it is fed, and the kind of machine."""
    fed = {**asdict(files), "graph": machine.file_hash(files.graph)}
    text = json.dumps([fed, machine.fingerprint("openvino")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def places(files: GraphFiles, findings: Path, key: str) -> tuple[Path, Path]:
    """Where a proof for ``key`` may lie: beside the graph, or with the other findings."""
    return files.graph.with_name(files.graph.name + PROOF), findings / f"{key}{PROOF}"


def compiled(files: GraphFiles, findings: Path, key: str) -> Kept:
    """Where the network that was compiled for the graph proven under ``key`` is kept."""
    return _kept(files, findings, key, COMPILED)


def quantized(files: GraphFiles, findings: Path, key: str) -> Kept:
    """Where the network in 8-bit integers is kept, from which that one is compiled."""
    return _kept(files, findings, key, QUANTIZED)


def _kept(files: GraphFiles, findings: Path, key: str, end: str) -> Kept:
    """For later starts: beside the graph, or with the other findings. Of each graph there is one,
    however it changes."""
    path = hashlib.sha256(str(files.graph.absolute()).encode()).hexdigest()[:16]
    beside = files.graph.with_name(files.graph.name + end)
    return Kept((beside, findings / f"{path}{end}"), key)


def read(files: GraphFiles, findings: Path) -> Proof | None:
    """The proof that holds for the graph on this machine, if there is one."""
    key = key_of(files)
    for place in places(files, findings, key):
        try:
            proof = _from_json(json.loads(place.read_text()))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warn("{place} is no proof: {error}", place=str(place), error=str(error))
            continue
        if proof.key == key:
            return proof
    return None


def write(proof: Proof, files: GraphFiles, findings: Path) -> Path:
    """Writes the proof beside the graph, or where that folder is read-only with the findings.

    :raises OSError: where neither can be written.
    """
    text = json.dumps(asdict(proof), indent=1) + "\n"
    return machine.write_whole(lambda: [text.encode()], *places(files, findings, proof.key))


def _from_json(fields: dict[str, Any]) -> Proof:
    trials = tuple(
        Trial(
            **{
                **trial,
                "seconds": tuple((int(n), float(s)) for n, s in trial["seconds"]),
                # A proof that does not say how far its scores might be off is an old one.
                "within": float(trial["within"]),
            }
        )
        for trial in fields["trials"]
    )
    return Proof(str(fields["key"]), str(fields["samples"]), trials)
