# SPDX-License-Identifier: MIT
"""Batches executed here and in a process apart: the same answers, the same errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from PIL import Image

from smls.errors import NotAnImage
from smls_node.executing import Begin, Execute, Executed, Executor, Plan
from smls_node.executingapart import ExecutorApart
from smls_node.runtimes.apart import Apart, RuntimeApart
from smls_node.settings import Limits
from smls_node.signature import DEFAULT, Inputs
from smls_node.tasks import image_task
from smls_node.works import Classifier, ClassifyWork, Decoding, InferWork, Work
from tests.node import guests
from tests.node.turns import awaited, turning
from tests.processes import until

MEAN = 100

There = Callable[[Plan], Execute]


@pytest.fixture(scope="module")
def runtime() -> Iterator[RuntimeApart]:
    with closing(Apart("a test wants it")) as apart:
        yield apart.load(guests.load, 10.0)


@pytest.fixture(scope="module")
def plan() -> Plan:
    task = image_task(guests.load().signatures, mean=MEAN, std=1.0)
    assert task is not None
    return Plan(Limits(), 1, Classifier(task, ("sum",), Decoding(max_pixels=1000)))


def upload(value: float) -> bytes:
    """An image whose first value is ``value`` for the model, and the others 0."""
    pixels = np.full((2, 2, 3), MEAN, np.uint8)
    pixels[0, 0, 0] = MEAN + value
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def reactor() -> Iterator[Any]:
    with turning() as reactor:
        yield reactor


@pytest.fixture
def there(runtime: RuntimeApart, reactor: Any) -> Callable[[Plan], Execute]:
    """What executes batches of a plan in the process."""

    def executor(plan: Plan) -> Execute:
        executor = ExecutorApart(runtime, plan, reactor)

        def execute(works: Sequence[Work], begin: Begin) -> Executed:
            done: Executed = awaited(reactor, lambda: executor(works, begin))
            return done

        return execute

    return executor


def executed(execute: Execute, *works: Work) -> list[Any]:
    return list(execute(works, lambda seconds: None).results)


def told(results: Sequence[Any]) -> list[Any]:
    return [(type(each), str(each)) if isinstance(each, Exception) else each for each in results]


def test_images_are_answered_and_refused_there_as_here(there: There, plan: Plan) -> None:
    works = [
        ClassifyWork(upload(1), 5),
        ClassifyWork(b"no image", 5),
        ClassifyWork(upload(guests.FAILS), 5),
        ClassifyWork(upload(3)[:-30], 5),
        ClassifyWork(upload(2), 5),
    ]
    here = told(executed(plan.executor(guests.load(10.0)), *works))
    assert told(executed(there(plan), *works)) == here
    assert [here[0], here[4]] == [(("sum", 11.0),), (("sum", 12.0),)]
    assert here[1][0] is NotAnImage
    assert here[2] == (ValueError, "negative")


def test_tensors_are_run_together_there_as_here(there: There) -> None:
    plan = Plan(Limits(allowed_batch_sizes=(8,)), 1)
    batches = [np.full((rows, 2, 2, 3), rows, np.float32) for rows in (1, 2, 3)]
    works = [InferWork(Inputs({"x": batch}, len(batch), DEFAULT)) for batch in batches]
    found = executed(there(plan), *works)
    assert [each["sum"].tolist() for each in found] == [
        [[22.0]],
        [[34.0]] * 2,
        [[46.0]] * 3,
    ]


def test_more_arrays_than_the_system_writes_at_once_arrive(there: There) -> None:
    one = np.ones((1, 2, 2, 3), np.float32)
    works = [InferWork(Inputs({"x": one * number})) for number in range(1500)]
    found = executed(there(Plan(Limits(), 1)), *works)
    assert [float(each["sum"][0, 0]) for each in found] == [12 * n + 10.0 for n in range(1500)]


def test_a_process_that_was_started_again_has_the_plans(
    there: There, runtime: RuntimeApart, plan: Plan
) -> None:
    smaller = evolve(plan, classifier=evolve(plan.classifier, decoding=Decoding(max_pixels=3)))
    first, second = there(plan), there(smaller)
    assert runtime.plan(plan) != runtime.plan(smaller) == runtime.plan(evolve(smaller))
    before = runtime.process
    os.kill(int(before.split()[1]), signal.SIGKILL)
    until(lambda: runtime.process.startswith("process") and runtime.process != before)
    work = ClassifyWork(upload(5), 5)
    assert executed(first, work) == [(("sum", 15.0),)]
    assert "wanted 3 at most" in str(executed(second, work)[0])


class Ticking:
    """A clock that goes on by 1 s each time that it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_seconds_are_counted_by_what_they_went_into() -> None:
    class Slow:
        def prepare(self, classifier: object) -> int:
            clock.now += 10
            return 1

        def finish(self, classifier: object, outputs: int) -> int:
            clock.now += 100
            return outputs

    clock, begun = Ticking(), []
    done = Executor(lambda inputs: inputs, 1, seconds=clock)([Slow(), Slow()], begun.append)
    assert (done.prepare, done.waiting, done.finish) == (21, 1, 201)
    assert begun == [0.0]


def test_when_a_run_begins_elsewhere_is_foreseen(there: There, plan: Plan) -> None:
    begun: list[float] = []
    execute = there(plan)
    work = ClassifyWork(upload(1), 5)
    first = execute([work] * 4, begun.append)
    execute([work] * 2, begun.append)
    assert begun == [0.0, pytest.approx((first.prepare + first.waiting) / 2)]
    assert first.prepare > 0
