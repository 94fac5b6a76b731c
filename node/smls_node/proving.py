# SPDX-License-Identifier: MIT
"""Makes a proof: runs a graph in the session and in OpenVINO, and compares. Blocks for seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path

import numpy as np
from attrs import evolve
from numpy.typing import NDArray

from smls.errors import BadImage, ModelUnusable
from smls_node import acceleration, images, machine, tuning
from smls_node.acceleration import SESSION, Proof, Trial
from smls_node.kept import Kept
from smls_node.runtimes import GraphFiles, Runtime, openvino, quantizing, tensorflow
from smls_node.tasks import image_task

Image = NDArray[np.float32]
"""float32[H, W, C], as a graph takes it."""

MOST_IMAGES = 500
"""More images make a proof slower, not better."""

LEAST_SAMPLES = 16
"""However little time there is."""

NO_TIME = "not tried for want of time; smls-node accelerate takes as long as it needs"

MAX_PIXELS = 100_000_000


def prove(
    files: GraphFiles,
    findings: Path,
    image_files: Sequence[Path],
    within: Mapping[str, float],
    *,
    limit: float = inf,
    keep: Callable[[Proof], object] = lambda proof: None,
    seconds: Callable[[], float] = time.monotonic,
) -> Proof:
    """The session and OpenVINO in each precision, on the images or on made-up ones.

    What is made by images, as ``i8`` is, is made by one half of them and proven on the other.

    :param within: how far a score may be from the session's, for each precision to try.
    :param limit: seconds for all of it. No more samples are taken than let every trial have its
        part of them, and what would not end in time, as far as can be foreseen, is not tried.
    :param keep: is given what is proven by now, after each trial.
    :param seconds: a monotonic clock.

    :raises ModelUnusable: where the session itself cannot run the graph, or the graph decodes
        by itself, so that there is nothing to accelerate.
    """
    end = seconds() + limit
    found = tuning.arrangement_for(files, findings, tensorflow.preload)
    session = tensorflow.load(files, operator_threads=found.operator_threads, runs=found.runs)
    task = image_task(session.signatures, files.mean, files.std)
    if task is None or task.pixels is None:
        raise ModelUnusable(
            f"{files.graph} takes JPEG bytes, which OpenVINO cannot decode; it stays as it is"
        )
    samples = _decoded(image_files, task.pixels) if image_files else _made_up(task.pixels)
    begun = seconds()
    first = _answers(session, samples[:LEAST_SAMPLES])
    took = seconds() - begun
    samples = samples[: _affordable(took / len(first), end - seconds(), 2 * len(within))]
    expected = np.concatenate([first, _answers(session, samples[len(first) :])])
    anchors = found.anchors or tuple(tuning.sizes_of(session, found.runs).items())
    measured = Trial(
        SESSION,
        "f32",
        one_by_one=False,
        runs=found.runs,
        images_per_second=max(found.runs * size / each for size, each in anchors),
        agreement=1.0,
        difference=0.0,
        seconds=anchors,
    )
    whose = "images of the operator's" if image_files else "made-up images"
    key, told = acceleration.key_of(files), f"{len(samples)} {whose}"
    quantized = acceleration.quantized(files, findings, key)
    foreseen = seconds() - begun
    problems = {}
    if quantizing.I8 in within:
        told += f" ({quantizing.I8} made by every second, proven on the others)"
        problems = {quantizing.I8: _quantize(files, samples, quantized, end - seconds())}
        # What was compiled of an earlier one, made by other images, holds for the same key.
        acceleration.compiled(files, findings, key).forget()
    candidates = [
        Trial(
            "openvino",
            precision,
            one_by_one,
            machine.cores(),
            problem=problems.get(precision) or NO_TIME,
            within=bound,
        )
        for precision, bound in within.items()
        for one_by_one in (True, False)
    ]
    for place, candidate in enumerate(candidates):
        keep(Proof(key, told, (measured, *candidates)))
        begun = seconds()
        if begun + foreseen > end:
            break
        if candidate.problem != NO_TIME:
            continue
        if candidate.precision == quantizing.I8:
            trial = _try(files, candidate, samples[1::2], expected[1::2], quantized)
        else:
            trial = _try(files, candidate, samples, expected)
        candidates[place] = trial
        foreseen = max(foreseen, seconds() - begun)
    proof = Proof(key, told, (measured, *candidates))
    keep(proof)
    return proof


def _affordable(each: float, left: float, trials: int) -> int:
    """How many samples of ``each`` seconds take half of the seconds that are left, where the
    session and every trial runs all of them; the rest is for measuring."""
    if each <= 0 or left == inf:
        return MOST_IMAGES
    return max(LEAST_SAMPLES, int(left / 2 / each / (1 + trials)))


def _quantize(files: GraphFiles, samples: Sequence[Image], kept: Kept, limit: float) -> str:
    """Quantizes the graph by every second image; what kept it from that, if anything."""
    if len(samples) < 2:
        return "got one image, wanted two: it is made by one half of them and proven on the other"
    try:
        quantizing.quantize(files, samples[::2], kept, limit)
    except (ModelUnusable, OSError) as error:
        return str(error)
    return ""


def _try(
    files: GraphFiles,
    trial: Trial,
    samples: Sequence[Image],
    expected: NDArray[np.float32],
    quantized: Kept | None = None,
) -> Trial:
    runs, one_by_one = trial.runs, trial.one_by_one
    try:
        model = openvino.load(files, **trial.how, quantized=quantized)
        got = _answers(model, samples)
    except (ModelUnusable, ImportError) as error:
        return evolve(trial, problem=str(error))
    if got.shape != expected.shape:
        problem = f"its answers have the shape {got.shape}, the session's {expected.shape}"
        return evolve(trial, problem=problem)
    if one_by_one:
        alone = tuning.seconds_of(model, 1, runs)
        seconds = {1: alone, 8: 8 * alone}
    else:
        seconds = tuning.sizes_of(model, runs)
    return evolve(
        trial,
        problem="",
        images_per_second=max(runs * size / each for size, each in seconds.items()),
        agreement=float(np.mean(got.argmax(axis=1) == expected.argmax(axis=1))),
        difference=float(np.abs(got - expected).max()),
        seconds=tuple(seconds.items()),
    )


def _answers(model: Runtime, samples: Sequence[Image]) -> NDArray[np.float32]:
    (name, signature), *_ = model.signatures.items()
    if not samples:
        return np.empty((0, *signature.outputs[0].shape[1:]), np.float32)
    size = 16 if signature.batches else 1
    (source,), (target,) = signature.inputs, signature.outputs
    batches = [np.stack(samples[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate(
        [model.infer({source.name: batch}, name, {})[target.name] for batch in batches]
    )


def _decoded(files: Sequence[Path], spec: images.PixelSpec) -> list[Image]:
    decoded: list[Image] = []
    for file in files[:MOST_IMAGES]:
        try:
            decoded.append(images.decode(file.read_bytes(), spec, MAX_PIXELS))
        except (OSError, BadImage) as error:
            acceleration.log.warn("{file}: {error}", file=str(file), error=str(error))
    if not decoded:
        raise ModelUnusable("none of the images could be read; give others with --images")
    return decoded


def _made_up(spec: images.PixelSpec, count: int = 64) -> list[Image]:
    """Smooth colours with some noise, from a fixed seed: what photos look like from afar."""
    random = np.random.default_rng(0)
    made: list[Image] = []
    for number in range(count):
        rough = random.random((2 + number % 7, 2 + number % 5, 3)) * 255
        picture = images.enlarged(rough.astype(np.uint8), spec)
        noise = random.normal(0, number % 4 * 8, picture.shape)
        made.append(images.scaled(np.clip(picture + noise, 0, 255).astype(np.float32), spec))
    return made
