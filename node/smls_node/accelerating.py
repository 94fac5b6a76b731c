# SPDX-License-Identifier: MIT
"""A graph in another engine than TensorFlow, where that is asked for and proven the same.

What a proof says is ``acceleration``'s, and how one is made ``proving``'s. Blocks: use a thread.
"""

from __future__ import annotations

import subprocess
import sys
import threading

from twisted.logger import Logger

from smls.errors import ModelUnusable, SmlsError
from smls_node import acceleration, machine, tuning
from smls_node.acceleration import Proof, Trial
from smls_node.arrangement import Arrangement
from smls_node.means import Means
from smls_node.pools import Beside
from smls_node.runtimes import GraphFiles, Runtime, openvino
from smls_node.settings import Channels

PROOF_SECONDS = 180.0
"""A proof that takes longer is ended, and what was proven until then holds."""

TRIAL_SECONDS = 150.0
"""What would take a proof beyond these is not tried; the rest is for importing TensorFlow, and for
a trial that takes longer than those before it."""

log = Logger()


def accelerated(
    files: GraphFiles, means: Means, beside: Beside | None
) -> tuple[Runtime, Arrangement] | None:
    """The graph in OpenVINO, where it is asked for, proven the same, and faster."""
    if means.accelerate == "off":
        return None
    try:
        if beside is None and files.graph.stat().st_size > machine.HASHED_BYTES:
            # Meanwhile the graph is hashed and what was kept is read, which hold no lock of
            # Python's. A small one is hashed at once, and may go to another process.
            threading.Thread(target=openvino.preload).start()
        proof = acceleration.read(files, means.findings)
        if proof is None:
            if beside is not None:
                log.info("{graph} stays in TensorFlow, unproven", graph=str(files.graph))
                return None
            proof = _proof(files, means)
        for trial in proof.ranked(None if means.accelerate == "auto" else means.accelerate):
            if trial.engine == acceleration.SESSION:
                break
            try:
                return _tried(files, means, beside, proof, trial)
            except ModelUnusable as error:
                log.warn("not run as {trial}: {error}", trial=trial.name, error=str(error))
        log.info("{graph} stays in TensorFlow, {why}", graph=str(files.graph), why=proof.why())
    except (SmlsError, ImportError, OSError, subprocess.SubprocessError) as error:
        log.warn("{graph} is not accelerated: {error}", graph=str(files.graph), error=str(error))
    return None


def _tried(
    files: GraphFiles, means: Means, beside: Beside | None, proof: Proof, trial: Trial
) -> tuple[Runtime, Arrangement]:
    """The graph in OpenVINO as it was tried.

    :raises ModelUnusable: where it cannot be run so any more.
    """
    how = {
        **trial.how,
        "kept": acceleration.compiled(files, means.findings, proof.key),
        "quantized": acceleration.quantized(files, means.findings, proof.key),
    }
    arrangement = trial.arrangement(f"{trial.name}, {proof.why()}")
    if beside is not None:
        return beside.load("", openvino.load, files, **how), arrangement
    if means.beside_http and arrangement.is_quick:
        return means.pools.quick(0).load(openvino.load, files, **how), arrangement
    return openvino.load(files, **how), arrangement


def _proof(files: GraphFiles, means: Means) -> Proof:
    """A proof on made-up images, made in a child: this process stays free of TensorFlow."""
    given = {
        "--input-layer": files.input_layer,
        "--output-layer": files.output_layer,
        "--input-mean": _between_commas(files.mean),
        "--input-std": _between_commas(files.std),
        "--input-height": files.height,
        "--input-width": files.width,
        "--findings": means.findings,
        "--limit": TRIAL_SECONDS,
    }
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    # It has its own time, and the proof needs what it finds.
    tuning.arrangement_for(files, means.findings)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "smls_node.commands.accelerate", str(files.graph), *options],
            capture_output=True,
            text=True,
            timeout=PROOF_SECONDS,
        )
        lines = child.stderr.strip().splitlines()
        problem = lines[-1] if lines else f"no proof was made ({child.returncode})"
    except subprocess.TimeoutExpired as error:
        problem = f"the proof took more than {error.timeout:g} s"
    proof = acceleration.read(files, means.findings)
    if proof is None:
        raise ModelUnusable(problem)
    return proof


def _between_commas(numbers: Channels) -> str:
    return ",".join(map(repr, numbers if isinstance(numbers, tuple) else (numbers,)))
