# SPDX-License-Identifier: MIT
"""Runtimes in real processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import capturedLogs, formatEvent

from smls.errors import BrokenImage, ModelUnusable, NodeFault, Overloaded
from smls.tensors import Tensors
from smls_node.backoff import LONGEST_SECONDS, pause_before
from smls_node.batcher import Batcher
from smls_node.batchtime import BatchTime
from smls_node.executing import Plan
from smls_node.executingapart import ExecutorApart
from smls_node.runtimes import Runtime
from smls_node.runtimes.apart import Apart, RuntimeApart
from smls_node.runtimes.channel import Channel, Closed
from smls_node.runtimes.forks import Forks, Life, fresh
from smls_node.settings import Limits
from smls_node.signature import DEFAULT, Inputs
from smls_node.worker import Job
from smls_node.workersapart import WorkersApart
from tests.node import guests
from tests.node.guests import DIES, FAILS, HANGS, IS_BROKEN, IS_ODD, MEETS, image
from tests.node.turns import turning
from tests.processes import environment, until

FORKS = Forks("tests.node.guests")

Begin = Callable[[socket.socket], Life]


@pytest.fixture(scope="module", params=[fresh, FORKS.fork], ids=["fresh", "forked"])
def begin(request: pytest.FixtureRequest) -> Begin:
    """Either way in which a process begins."""
    found: Begin = request.param
    return found


@pytest.fixture(scope="module")
def apart(begin: Begin) -> Iterator[Apart]:
    with closing(Apart("a test wants it", begin=begin)) as apart:
        yield apart


@pytest.fixture(scope="module")
def adding(apart: Apart) -> RuntimeApart:
    """Well before and after each test."""
    return apart.load(guests.load, 10.0)


def sums(runtime: Runtime, *images: NDArray[np.float32]) -> list[float]:
    outputs = runtime.infer({"x": np.stack(images)}, DEFAULT, {})
    return [float(each) for each in outputs["sum"][:, 0]]


def process_of(runtime: RuntimeApart) -> int:
    """The id of the process, once there is one."""
    return int(until(lambda: runtime.process.startswith("process") and runtime.process).split()[1])


def lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def kill(runtime: RuntimeApart) -> None:
    """Kills its process, and waits until that was noticed."""
    process = process_of(runtime)
    os.kill(process, signal.SIGKILL)
    until(lambda: not runtime.process.startswith(f"process {process} "))


def test_what_it_gives_is_what_the_runtime_gives(adding: RuntimeApart) -> None:
    here = guests.load(10.0)
    batch = {"x": np.random.default_rng(0).random((9, 2, 2, 3), np.float32)}
    assert adding.signatures == here.signatures
    assert np.array_equal(adding.example["x"], here.example["x"])
    got, wanted = (each.infer(batch, DEFAULT, {}) for each in (adding, here))
    assert np.array_equal(got["sum"], wanted["sum"])
    assert process_of(adding) != os.getpid()
    assert adding.process.endswith("(a test wants it)")


def test_runs_go_side_by_side(adding: RuntimeApart) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(sums, adding, image(MEETS)) for _ in range(2)]
        assert [each.result(60)[0] for each in both] == [5.0, 5.0]


@pytest.mark.parametrize("is_forked", [False, True])
def test_what_a_runtime_has_to_say_is_in_the_log(
    capfd: pytest.CaptureFixture[str], is_forked: bool
) -> None:
    begin = Forks("tests.node.guests").fork if is_forked else fresh
    with closing(Apart("a test wants it", begin=begin)) as apart:
        apart.load(guests.load_and_tell)
        until(lambda: "/ is made anew" in capfd.readouterr().err)


def test_errors_are_those_of_the_runtime(adding: RuntimeApart) -> None:
    for first, kind, told in (
        (FAILS, ValueError, "negative"),
        (IS_BROKEN, BrokenImage, "cut short"),
        (IS_ODD, RuntimeError, "tests.node.guests.Odd: an odd one"),
    ):
        with pytest.raises(kind) as raised:
            sums(adding, image(first))
        assert str(raised.value) == told
        assert "in infer\n" in raised.value.__notes__[0]


@pytest.fixture(scope="module")
def reactor() -> Iterator[Any]:
    with turning() as reactor:
        yield reactor


class Plain:
    def __init__(self, value: float) -> None:
        self.value = value

    def prepare(self, _: object) -> Inputs:
        return Inputs({"x": image(self.value)[None]})

    def finish(self, _: object, outputs: Tensors) -> float:
        return float(outputs["sum"][0, 0])


class Large(Plain):
    """Is answered with its own array, and as large."""

    def __init__(self, array: NDArray[np.float32], text: bytes) -> None:
        super().__init__(0.0)
        self.array, self.text = array, text

    def finish(self, _: object, outputs: Tensors) -> Any:
        return float(outputs["sum"][0, 0]), self.array + 1


def begun(reactor: Any, runtime: RuntimeApart, *works: Any) -> Queue[Job]:
    """Where jobs of these works come to when they are done. They are one batch."""
    done: Queue[Job] = Queue()
    batcher = Batcher(Limits(), BatchTime([(1, 0.001), (8, 0.001)]), 1)
    executor = ExecutorApart(runtime, Plan(Limits(), 1), reactor)
    workers = WorkersApart(batcher, executor, lambda: 0.0, reactor)

    def submit() -> None:
        for work in works:
            workers.submit(Job(work, done.put), deadline=60.0, priority=5, size_bytes=1)

    reactor.callFromThread(submit)
    return done


def answers(reactor: Any, runtime: RuntimeApart, *values: float) -> list[object]:
    """What one batch of images that begin so comes to."""
    done = begun(reactor, runtime, *map(Plain, values))
    return [done.get(timeout=60).result for _ in values]


def test_a_poisonous_input_fails_alone(reactor: Any, adding: RuntimeApart) -> None:
    first, broken, failing, last = answers(reactor, adding, 1.0, IS_BROKEN, FAILS, 2.0)
    assert (first, last) == (11.0, 12.0)
    assert isinstance(broken, BrokenImage)
    assert isinstance(failing, ValueError)


def test_a_batch_whose_process_dies_fails_whole_and_the_next_one_is_answered(
    reactor: Any, adding: RuntimeApart
) -> None:
    before = process_of(adding)
    with capturedLogs() as logged:
        failed = answers(reactor, adding, 1.0, DIES, 2.0)
        for each in failed:
            assert isinstance(each, NodeFault)
            assert "was killed by SIGKILL" in each.message
        until(lambda: process_of(adding) != before)
        until(lambda: any("has taken its place" in formatEvent(event) for event in logged))
    told = [formatEvent(event) for event in logged]
    assert any(
        f"process {before} of its own for a test wants it was killed by SIGKILL" in line
        and "started again in 0." in line
        for line in told
    )
    assert answers(reactor, adding, 1.0) == [11.0]


def test_a_process_that_stands_still_holds_up_no_reactor(
    reactor: Any, adding: RuntimeApart
) -> None:
    large = np.zeros((1, 2000, 2000, 3), np.float32)
    process = process_of(adding)
    os.kill(process, signal.SIGSTOP)
    try:
        # More than a socket holds, in arrays and in what is pickled.
        done = begun(reactor, adding, Large(large, b"x" * 5_000_000), Plain(1.0))
        for _ in range(10):
            blockingCallFromThread(reactor, lambda: None)
        assert done.empty()
    finally:
        os.kill(process, signal.SIGCONT)
    (ten, ones), eleven = (done.get(timeout=60).result for _ in range(2))
    assert (ten, eleven) == (10.0, 11.0)
    assert np.array_equal(ones, large + 1)


def test_who_comes_while_there_is_no_process_is_told_to_come_back(
    tmp_path: Path, begin: Begin
) -> None:
    # Whoever reads this file waits until somebody writes to it.
    number = tmp_path / "number"
    os.mkfifo(number)
    with closing(Apart("a test", begin=begin)) as own, ThreadPoolExecutor(1) as pool:
        loading = pool.submit(own.load, guests.load_file, str(number))
        number.write_text("5")
        runtime = loading.result()
        kill(runtime)
        with pytest.raises(Overloaded, match=r"was killed by SIGKILL.*is started again") as raised:
            sums(runtime, image())
        assert raised.value.retry_after_seconds
        assert runtime.process.startswith("no process, process ")
        number.write_text("6")
        process_of(runtime)
        assert sums(runtime, image(3.0)) == [9.0]


def test_each_start_in_a_row_waits_twice_as_long() -> None:
    pauses = [pause_before(start) for start in range(1, 5000)]
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_SECONDS


def test_what_cannot_be_loaded_is_told_as_it_would_be_here(
    apart: Apart, tmp_path: Path, begin: Begin
) -> None:
    with closing(Apart("a test", begin=begin)) as own:
        with pytest.raises(ModelUnusable, match="nothing: there is no such file"):
            own.load(guests.load_file, str(tmp_path / "nothing"))
        with pytest.raises(ModelUnusable, match="was to be loaded ended with status 7"):
            own.load(guests.load_and_die)
        assert own.told().startswith("no process")
        assert sums(own.load(guests.load, 1.0), image(2.0)) == [3.0]


def test_models_share_a_process_until_the_last_has_left(tmp_path: Path, begin: Begin) -> None:
    number = tmp_path / "number"
    number.write_text("5")
    with closing(Apart("a test", begin=begin)) as own:
        first, second = own.load(guests.load), own.load(guests.load_file, str(number))
        assert process_of(first) == process_of(second)
        number.unlink()
        kill(first)
        process_of(first)
        # One that cannot be loaded again says so, and does its neighbour no harm.
        assert sums(first, image(1.0)) == [1.0]
        assert "there is no such file" in second.process
        with pytest.raises(NodeFault, match="there is no such file"):
            sums(second, image())
        # It is tried again, later each time.
        number.write_text("6")
        until(lambda: not second.problem)
        assert sums(second, image(1.0)) == [7.0]
        assert process_of(second) == process_of(first)
        number.unlink()
        before = process_of(first)
        kill(first)
        assert process_of(first) != before
        second.unload()
        last = process_of(first)
        first.unload()
        assert not lives(last)
        assert sums(own.load(guests.load), image(1.0)) == [1.0]


def test_the_weights_are_in_one_process_and_go_with_it(begin: Begin) -> None:
    size = 100_000_000
    with closing(Apart("a test", begin=begin)) as own:
        before = resident(os.getpid())
        runtime = own.load(guests.load, 0.0, size)
        assert resident(process_of(runtime)) > size
        assert resident(os.getpid()) - before < size / 10
        process = process_of(runtime)
        runtime.unload()
        assert not lives(process)


def test_memory_and_descriptors_stay_where_they_are(adding: RuntimeApart) -> None:
    batch = {"x": np.zeros((32, 64, 64, 3), np.float32)}
    for _ in range(50):
        adding.infer(batch, DEFAULT, {})
    child = process_of(adding)
    before = [resident(each) for each in (os.getpid(), child)], open_files(os.getpid())
    for _ in range(1000):
        adding.infer(batch, DEFAULT, {})
    after = [resident(each) for each in (os.getpid(), child)], open_files(os.getpid())
    # Those of a process that has just ended may only now be closed.
    assert after[1] <= before[1]
    for _ in range(100):
        adding.infer(batch, DEFAULT, {})
    assert open_files(os.getpid()) == after[1]
    for new, old in zip(after[0], before[0], strict=True):
        assert new - old < 5_000_000


def test_signals_that_stop_a_node_leave_the_process_to_it(adding: RuntimeApart) -> None:
    child = process_of(adding)
    assert os.getpgid(child) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child, number)
    assert sums(adding, image(1.0)) == [11.0]
    assert process_of(adding) == child


def test_it_has_no_descriptor_of_ours(adding: RuntimeApart, begin: Begin) -> None:
    reading, writing = os.pipe()
    child = process_of(adding)
    for descriptor in (reading, writing):
        os.set_inheritable(descriptor, True)
    with closing(Apart("a test", begin=begin)) as own:
        theirs = process_of(own.load(guests.load))
        for process in (child, theirs):
            found = {os.readlink(each) for each in Path(f"/proc/{process}/fd").iterdir()}
            assert os.readlink(f"/proc/self/fd/{reading}") not in found
    os.close(reading)
    os.close(writing)


def forker_of(runtime: RuntimeApart) -> int:
    """The process that was forked for it."""
    told = Path(f"/proc/{process_of(runtime)}/stat").read_text()
    return int(told.rpartition(")")[2].split()[1])


def test_forks_share_what_one_process_has_imported_and_it_goes_with_the_last() -> None:
    forks = Forks("tests.node.guests")
    with (
        closing(Apart("one", begin=forks.fork)) as one,
        closing(Apart("two", begin=forks.fork)) as two,
    ):
        first, second = (each.load(guests.load_where_preloaded) for each in (one, two))
        forker = forker_of(first)
        assert forker_of(second) == forker
        assert process_of(first) != process_of(second)
        assert sums(first, image()) == sums(second, image()) == [float(forker)]
        first.unload()
        assert lives(forker)
        assert sums(second, image()) == [float(forker)]
        before = process_of(second)
        kill(second)
        # What takes its place needs no other import, though nothing else was left.
        assert process_of(second) != before
        assert sums(second, image(1.0)) == [forker + 1.0]
        second.unload()
        until(lambda: not lives(forker))


def test_forks_outlive_what_was_forked() -> None:
    forks = Forks("tests.node.guests")
    with (
        closing(Apart("one", begin=forks.fork)) as one,
        closing(Apart("two", begin=forks.fork)) as two,
    ):
        first = one.load(guests.load_where_preloaded)
        before, process = forker_of(first), process_of(first)
        os.kill(before, signal.SIGKILL)
        until(lambda: not lives(before))
        assert sums(first, image()) == [float(before)]
        second = two.load(guests.load_where_preloaded)
        assert forker_of(second) != before
        with capturedLogs() as logged:
            kill(first)
            assert process_of(first) != process
        assert any("ended, nobody knows how" in str(formatEvent(each)) for each in logged)
        assert forker_of(first) == forker_of(second)


def test_where_the_library_cannot_be_imported_who_loads_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(guests.PRELOAD_FAILS, "1")
    with closing(Apart("a test", begin=Forks("tests.node.guests").fork)) as own:
        assert sums(own.load(guests.load), image(1.0)) == [1.0]
        with pytest.raises(IndexError):
            own.load(guests.load_where_preloaded)


def test_where_nothing_can_be_forked_who_loads_is_told() -> None:
    own = Apart("a test", begin=Forks("tests.node.nothing").fork)
    with closing(own), pytest.raises(ModelUnusable, match="to be loaded ended with status 1"):
        own.load(guests.load)


def test_where_the_import_dies_in_the_middle_of_a_load_who_loads_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where memory runs out; the next load imports anew."""
    told = tmp_path / "told"
    os.mkfifo(told)
    own = Apart("a test", begin=Forks("tests.node.guests").fork)
    with closing(own), ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patched:
            patched.setenv(guests.PRELOAD_HANGS, str(told))
            loading = pool.submit(own.load, guests.load)
            os.kill(int(told.read_text()), signal.SIGKILL)
            with pytest.raises(ModelUnusable, match="to be loaded was killed by SIGKILL"):
                loading.result(60)
        assert sums(own.load(guests.load), image(1.0)) == [1.0]


def test_a_load_that_hangs_is_ended_by_closing(begin: Begin, tmp_path: Path) -> None:
    """Also where it lets no other thread of its process run."""
    told = tmp_path / "told"
    os.mkfifo(told)
    own = Apart("a test", begin=begin)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(own.load, guests.load_slowly, str(told))
        assert lives(int(told.read_text()))
        own.close()
        with pytest.raises(ModelUnusable, match="was killed by SIGKILL"):
            loading.result(60)


def test_who_loads_is_told_where_the_process_is_killed_meanwhile(
    begin: Begin, tmp_path: Path
) -> None:
    """As by the kernel, for want of memory."""
    told = tmp_path / "told"
    os.mkfifo(told)
    with closing(Apart("a test", begin=begin)) as own, ThreadPoolExecutor(1) as pool:
        loading = pool.submit(own.load, guests.load_slowly, str(told))
        os.kill(int(told.read_text()), signal.SIGKILL)
        with pytest.raises(ModelUnusable, match="was to be loaded was killed by SIGKILL"):
            loading.result(60)
        assert sums(own.load(guests.load), image(1.0)) == [1.0]


def test_what_is_closed_before_it_is_born_is_not_born() -> None:
    for _ in range(20):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            life = FORKS.fork(theirs)
        life.kill()
        life.let_go()
        assert life.wait() == -signal.SIGKILL
        life.leave()


@pytest.mark.parametrize("is_over", [False, True])
def test_what_is_killed_before_anybody_has_heard_of_it_ends(is_over: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.ExitStack() as stack:
        life = FORKS.fork(theirs)
        theirs.close()
        channel = asked_over(ours)
        stack.callback(channel.close)
        channel.send(("load", 0, guests.load_where_preloaded, False))
        assert channel.receive()[0]
        if is_over:
            channel.send(("load", 1, guests.load_and_die, False))
            with pytest.raises(Closed):
                channel.receive()
            until(lambda: not ours.recv(1))
        life.kill()
        # Where it was over by itself, that may not have been told yet.
        assert life.wait() in ((7, -signal.SIGKILL) if is_over else (-signal.SIGKILL,))
        life.leave()
        life.kill()
        life.let_go()


def asked_over(control: socket.socket) -> Channel:
    """A channel to the process that begins with the other end of ``control``."""
    ours, theirs = socket.socketpair()
    memory = os.memfd_create("a test")
    with theirs:
        socket.send_fds(control, [b"c"], [theirs.fileno(), memory])
    return Channel(ours, memory)


OWNER = """
import sys
from tests.node import guests
from smls_node.executing import Plan
from smls_node.executingapart import ExecutorApart
from smls_node.runtimes import Runtime
from smls_node.runtimes.apart import Apart
from smls_node.runtimes.channel import Channel, Closed
from smls_node.runtimes.forks import Forks, fresh
begin = Forks("tests.node.guests").fork if sys.argv[2:] else fresh
runtime = Apart("a test", begin=begin).load(guests.load)
print(runtime.process.split()[1], flush=True)
runtime.infer({"x": guests.image(float(sys.argv[1]))[None]}, "serving_default", {})
sys.stdin.read()
"""


@pytest.mark.parametrize("forked", [(), ("forked",)], ids=["fresh", "forked"])
@pytest.mark.parametrize("first", [0.0, HANGS])
def test_it_ends_with_its_node_however_that_ends(first: float, forked: tuple[str, ...]) -> None:
    """Also while its model hangs and lets no other thread run; and so does what was forked."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(first), *forked],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        cwd=Path(__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        assert lives(child)
        left = [child, *children(owner.pid)]
        assert len(left) == 2
        if first == HANGS:
            # In the C library's sleep, with Python's lock.
            until(lambda: "clock_nanosleep" in sleeping_in(child))
        owner.kill()
        begun = time.monotonic()
        until(lambda: not any(lives(each) and state(each) != "Z" for each in left))
        assert time.monotonic() - begun < 60


def sleeping_in(process: int) -> list[str]:
    """What its threads wait for in the kernel; all of it where that is hidden."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        number = (task / "syscall").read_text().split()[0]
        found.append({"230": "clock_nanosleep", "115": "clock_nanosleep"}.get(number, number))
    return found


def children(process: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]


def open_files(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def resident(process: int) -> int:
    """Bytes of memory that the process has."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
