# SPDX-License-Identifier: MIT
"""The proof, pure; and with OpenVINO where it is installed."""

from __future__ import annotations

import ctypes
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from attrs import evolve
from twisted.logger import capturedLogs, formatEvent

from smls.errors import ModelUnusable
from smls_node import acceleration, embedded, proving, tuning
from smls_node.acceleration import Proof, Trial
from smls_node.arrangement import Arrangement
from smls_node.factory import Factory
from smls_node.kept import Kept
from smls_node.loading import load
from smls_node.means import Means
from smls_node.pools import Pools
from smls_node.runtimes import GraphFiles, openvino, quantizing
from smls_node.settings import ModelSettings
from smls_node.signature import DEFAULT

DIGITS = Path(__file__).parents[2] / "examples" / "digits"

FOUND = Arrangement(1, 2, 3, ((1, 0.006),), "told by the test")

SESSION = Trial("tensorflow", "f32", False, 2, 300.0, 1.0, 0.0, ((1, 0.006),))
SAME = Trial("openvino", "f32", True, 2, 500.0, 1.0, 1e-6, ((1, 0.004),))
ROUGH = Trial("openvino", "bf16", True, 2, 1000.0, 0.99, 0.01, ((1, 0.002),), within=0.05)


def proof(*trials: Trial, key: str = "k") -> Proof:
    return Proof(key, "8 made-up images", trials)


def test_the_fastest_that_gives_the_same_answers_is_chosen() -> None:
    assert proof(SESSION, SAME, ROUGH).chosen() == SAME
    agrees = evolve(ROUGH, agreement=0.996)
    assert proof(SESSION, SAME, agrees).chosen() == agrees
    far_off = evolve(agrees, difference=0.06)
    assert proof(SESSION, far_off).chosen() == SESSION
    allowed = evolve(far_off, within=0.1)
    assert proof(SESSION, allowed).chosen() == allowed
    # It starts at once and is small, so that the session has to be faster by a tenth.
    for speed, engine in ((280.0, "openvino"), (270.0, "tensorflow")):
        as_good = evolve(SAME, images_per_second=speed)
        assert proof(SESSION, as_good).chosen().engine == engine
    slow = evolve(SAME, images_per_second=100.0)
    assert proof(SESSION, slow).chosen() == SESSION
    assert proof(SESSION, slow).chosen("openvino") == slow
    assert proof(SESSION, slow, SAME).ranked() == [SAME, SESSION, slow]
    assert proof(SESSION, slow, SAME).ranked("openvino") == [SAME, slow, SESSION]
    broken = evolve(SAME, problem="it cannot read the graph")
    assert proof(SESSION, broken).chosen("openvino") == SESSION
    assert "it cannot read the graph" in proof(SESSION, broken).why()


def test_a_worker_decodes_beside_the_runs_unless_the_model_is_as_quick_as_that() -> None:
    found = SAME.arrangement("told")
    assert (found.runs, found.workers) == (2, 3)
    tiny = evolve(SAME, seconds=((1, 0.0002), (32, 0.001))).arrangement("told")
    assert tiny.is_quick
    assert (tiny.runs, tiny.workers) == (2, 2)


def test_a_proof_holds_for_its_own_graph_alone(tmp_path: Path) -> None:
    graph = tmp_path / "g.pb"
    graph.write_bytes(b"one")
    files = GraphFiles(graph)
    assert acceleration.read(files, tmp_path) is None
    made = proof(SESSION, SAME, key=acceleration.key_of(files))
    place = acceleration.write(made, files, tmp_path)
    assert place == tmp_path / "g.pb.proof.json"
    assert acceleration.read(files, tmp_path) == made
    assert acceleration.read(evolve(files, mean=1.0), tmp_path) is None
    graph.write_bytes(b"another")
    assert acceleration.read(files, tmp_path) is None
    place.write_text("{}")
    assert acceleration.read(files, tmp_path) is None


def means(findings: Path, accelerate: str) -> Means:
    return Means(findings, Pools(), time.monotonic, accelerate=accelerate)


def test_a_model_is_proven_on_images_and_then_runs_in_openvino(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    graph = Path(copy(embedded.GRAPH, tmp_path / "digits.pb"))
    findings = tmp_path / "findings"
    findings.mkdir()
    tuning.keep(FOUND, tuning.place_of(GraphFiles(graph), findings))
    made = subprocess.run(
        [
            *(sys.executable, "-m", "smls_node.commands.accelerate", graph),
            *("--images", DIGITS, "--findings", findings),
            *("--precisions", "f32,i8", "--within", "0.04"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "openvino f32" in made.stdout
    assert "openvino i8" in made.stdout
    assert "<- chosen" in made.stdout
    found = acceleration.read(GraphFiles(graph), tmp_path)
    assert found is not None
    is_lower = any(trial.passed and trial.precision == "i8" for trial in found.trials)
    assert is_lower == ("images, which prove little" in made.stderr)
    assert (tmp_path / "digits.pb.openvino").is_file()
    assert {trial.within for trial in found.trials if trial.precision == "i8"} == {0.04}
    settings = ModelSettings(graph, embedded.LABELS, operator_threads=1, runs=1)
    fast = load(settings, means(tmp_path, "openvino"))
    usual = load(settings, means(tmp_path, "off"))
    assert type(fast.runtime).__name__ == "OpenVinoGraph"
    assert fast.arrangement.why.startswith("openvino")
    assert fast.runtime.signatures == usual.runtime.signatures
    inputs = {"input": np.random.default_rng(0).random((5, 32, 32, 3), np.float32)}
    got, wanted = (each.runtime.infer(inputs, DEFAULT, {}) for each in (fast, usual))
    (output,) = wanted
    difference = np.abs(got[output] - wanted[output]).max()
    # Where the processor multiplies integers, that is what was chosen.
    assert difference < found.chosen("openvino").within
    # Beside HTTP so quick a model gets a process of its own.
    assert fast.arrangement.is_quick
    serving = evolve(means(tmp_path, "openvino"), beside_http=True)
    with closing(serving.pools):
        apart = load(settings, serving)
        assert apart.runtime.process.endswith("(quick: HTTP has the node's own to itself)")
        assert np.array_equal(apart.runtime.infer(inputs, DEFAULT, {})[output], got[output])
        apart.runtime.unload()


def test_what_cannot_be_proven_stays_in_the_session(tmp_path: Path) -> None:
    graph = Path(copy(embedded.GRAPH, tmp_path / "digits.pb"))
    files = GraphFiles(graph)
    broken = evolve(SAME, problem="no")
    acceleration.write(proof(SESSION, broken, key=acceleration.key_of(files)), files, tmp_path)
    settings = ModelSettings(graph, embedded.LABELS, operator_threads=1, runs=1)
    model = load(settings, means(tmp_path, "auto"))
    assert type(model.runtime).__name__ == "TensorFlowGraph"


KEYS = {"precision": "f32", "streams": 1}


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_kept_network_is_the_one_that_was_compiled(tmp_path: Path, one_by_one: bool) -> None:
    pytest.importorskip("openvino")
    files = GraphFiles(Path(copy(embedded.GRAPH, tmp_path / "digits.pb")))
    kept = acceleration.compiled(files, tmp_path / "findings", "k")
    how = {**KEYS, "one_by_one": one_by_one, "kept": kept}
    compiled = openvino.load(files, **how)
    # There is no graph any more that could be read.
    files.graph.write_bytes(b"")
    imported = openvino.load(files, **how)
    assert imported.signatures == compiled.signatures
    inputs = {"input": np.random.default_rng(0).random((5, 32, 32, 3), np.float32)}
    (wanted,) = compiled.infer(inputs).values()
    for _ in range(2):
        (got,) = imported.infer(inputs).values()
        assert np.array_equal(got, wanted)
        # What is kept may go, or be cut, while its network is used.
        kept.places[0].write_bytes(b"")
    for other in (
        {"precision": "bf16"},
        {"streams": 2},
        {"one_by_one": not one_by_one},
        {"kept": evolve(kept, key="of another graph")},
    ):
        with pytest.raises(ModelUnusable, match="cannot run it"):
            openvino.load(files, **{**how, **other})


def test_a_kept_network_that_is_refused_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    files = GraphFiles(Path(copy(embedded.GRAPH, tmp_path / "digits.pb")))
    kept = acceleration.compiled(files, tmp_path / "findings", "k")
    how = {**KEYS, "one_by_one": True, "kept": kept}
    openvino.load(files, **how)
    (place,) = (each for each in kept.places if each.exists())
    good = place.read_bytes()
    line = good.split(b"\n")[0].decode().split()
    # As if it were whole, but it is no network.
    evolve(kept, key=" ".join(line[1:-1])).write(lambda: memoryview(b"no network" * 100))
    openvino.load(files, **how)
    assert "OpenVINO refuses" in caplog.text
    assert place.read_bytes().split()[:3] == good.split()[:3]
    files.graph.write_bytes(b"")
    openvino.load(files, **how)
    assert sorted(each.name for each in tmp_path.iterdir()) == [files.graph.name, place.name]


def test_a_network_that_cannot_be_kept_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    files = GraphFiles(Path(copy(embedded.GRAPH, tmp_path / "digits.pb")))
    (tmp_path / "file").write_text("no folder")
    kept = Kept((tmp_path / "file" / "kept",), "k")
    model = openvino.load(files, **KEYS, one_by_one=True, kept=kept)
    assert model.infer(model.example)
    assert "cannot be kept" in caplog.text


def test_a_proven_model_is_taken_from_what_was_kept_in_whatever_process(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    graph = Path(copy(embedded.GRAPH, tmp_path / "digits.pb"))
    files = GraphFiles(graph)
    acceleration.write(proof(SESSION, SAME, key=acceleration.key_of(files)), files, tmp_path)
    settings = ModelSettings(graph, embedded.LABELS)
    given = means(tmp_path, "auto")
    place = tmp_path / "digits.pb.openvino"
    inputs = {"input": np.random.default_rng(0).random((3, 32, 32, 3), np.float32)}
    models = []
    try:
        for beside in (given.pools.beside(), None, given.pools.beside()):
            given = evolve(given, factory=Factory())
            models.append(load(settings, given, beside=beside))
            assert place.is_file()
            if len(models) == 1:
                written = place.stat().st_ino
        assert place.stat().st_ino == written
        answers = [model.runtime.infer(inputs, DEFAULT, {}) for model in models]
        (output,) = answers[0]
        assert all(np.array_equal(each[output], answers[0][output]) for each in answers)
        assert "process" in models[0].runtime.process
    finally:
        given.pools.close()


def digits_in_integers(folder: Path, **bounds: float) -> tuple[GraphFiles, Proof]:
    """The embedded graph in ``folder``, proven in these precisions and in 8-bit integers."""
    files = GraphFiles(Path(copy(embedded.GRAPH, folder / "digits.pb")))
    tuning.keep(FOUND, tuning.place_of(files, folder))
    made = proving.prove(files, folder, sorted(DIGITS.iterdir()), {**bounds, "i8": 0.05})
    acceleration.write(made, files, folder)
    return files, made


def test_a_graph_in_8_bit_integers_is_proven_on_images_that_it_was_not_made_by(
    tmp_path: Path,
) -> None:
    pytest.importorskip("nncf")
    files, made = digits_in_integers(tmp_path)
    _, alone, together = made.trials
    assert made.samples == (
        f"{len(list(DIGITS.iterdir()))} images of the operator's "
        "(i8 made by every second, proven on the others)"
    )
    assert alone.passed
    assert together.passed
    # It is not the same network under another name.
    assert 1e-6 < together.difference < 0.05
    quantized = acceleration.quantized(files, tmp_path, made.key)
    assert (tmp_path / "digits.pb.i8").stat().st_size < files.graph.stat().st_size / 2
    inputs = {"input": np.random.default_rng(0).random((3, 32, 32, 3), np.float32)}
    for one_by_one in (True, False):
        model = openvino.load(
            files, precision="i8", streams=1, one_by_one=one_by_one, quantized=quantized
        )
        usual = openvino.load(files, **KEYS, one_by_one=one_by_one)
        assert model.signatures == usual.signatures
        (got,), (wanted,) = (each.infer(inputs).values() for each in (model, usual))
        assert 1e-6 < np.abs(got - wanted).max() < 0.05


def test_what_cannot_be_run_any_more_gives_way_to_what_passed_after_it(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    files, made = digits_in_integers(tmp_path, f32=0.001)
    # The machine may be busy: in which order they are tried is not what is tested.
    speeds = {"i8": 3e9, "f32": 2e9}
    trials = [
        evolve(each, images_per_second=speeds[each.precision])
        if each.engine == "openvino" and each.one_by_one
        else evolve(each, images_per_second=1.0)
        for each in made.trials
    ]
    acceleration.write(proof(*trials, key=made.key), files, tmp_path)
    settings = ModelSettings(files.graph, embedded.LABELS)

    def chosen() -> str:
        model = load(settings, means(tmp_path, "auto"))
        model.runtime.unload()
        return model.arrangement.why.split(",")[0]

    place, compiled = tmp_path / "digits.pb.i8", tmp_path / "digits.pb.openvino"
    assert chosen() == "openvino i8"
    assert compiled.is_file()
    # Made anew by other images it is another network: what was compiled of this one is not its.
    proving.prove(files, tmp_path, sorted(DIGITS.iterdir())[:4], {"i8": 0.05})
    assert not compiled.exists()
    assert chosen() == "openvino i8"
    # What was compiled of it is enough, and is made anew as long as it is there.
    good = place.read_bytes()
    place.unlink()
    assert chosen() == "openvino i8"
    place.write_bytes(good)
    compiled.unlink()
    assert chosen() == "openvino i8"
    compiled.unlink()
    place.write_bytes(good[:-1])
    with capturedLogs() as events:
        assert chosen() == "openvino f32"
    told = " ".join(str(formatEvent(event)) for event in events)
    assert "not run as openvino i8, one by one" in told
    assert f"smls-node accelerate {files.graph.name} --images DIR" in told


def test_what_cannot_be_quantized_is_told_and_the_rest_is_proven(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    files = GraphFiles(Path(copy(embedded.GRAPH, tmp_path / "digits.pb")))
    kept = Kept((tmp_path / "kept",), "k")
    images = [np.zeros((32, 32, 3), np.float32)]
    with pytest.raises(ModelUnusable, match="not quantized in 0 s"):
        quantizing.quantize(files, images, kept, limit=0.0)
    broken = GraphFiles(tmp_path / "broken.pb")
    broken.graph.write_bytes(b"no graph")
    with pytest.raises(ModelUnusable, match=r"broken\.pb cannot be quantized: ."):
        quantizing.quantize(broken, images, kept)
    assert not kept.places[0].exists()
    tuning.keep(FOUND, tuning.place_of(files, tmp_path))
    first = DIGITS / "seven.jpg"
    made = proving.prove(files, tmp_path, [first], {"i8": 0.05, "f32": 0.001})
    told = {each.precision: each.problem for each in made.trials}
    assert told["i8"].startswith("got one image, wanted two")
    assert told["f32"] == ""


def test_nothing_that_would_report_over_the_network_is_imported() -> None:
    pytest.importorskip("nncf")
    program = (
        "from smls_node.runtimes import openvino; openvino.library(); import sys, nncf; "
        "print(sorted(each for each in sys.modules if 'openvino_telemetry' in each))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout.strip() == "['openvino_telemetry']"


def test_usage_is_told() -> None:
    for options, told in (
        ([], "0 models"),
        (["a.pb", "--precisions", "f8"], "got 'f8'"),
        (["a.pb", "--precisions", "f32,i8"], "got i8 without --images"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "smls_node.commands.accelerate", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert told in ended.stderr


def test_what_was_proven_holds_where_there_was_no_time_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    graph = Path(copy(embedded.GRAPH, tmp_path / "digits.pb"))
    files = GraphFiles(graph)
    monkeypatch.setattr(tuning, "arrangement_for", lambda *given: FOUND)
    within = {"f32": 0.001, "bf16": 0.05}
    # Each look at the clock is a second: the session takes six, and each trial one.
    for limit, tried in ((0.0, 0), (10.0, 2), (1000.0, 4)):
        kept: list[Proof] = []
        made = proving.prove(
            files,
            tmp_path,
            [],
            within,
            limit=limit,
            keep=kept.append,
            seconds=map(float, count()).__next__,
        )
        print(limit, [each.problem for each in made.trials], made.samples)
        left_out = [each for each in made.trials if each.problem == proving.NO_TIME]
        assert len(made.trials) == 5
        assert len(left_out) == 4 - tried
        assert kept[-1] == made
        assert kept[0].chosen() == made.trials[0]
        assert sum(each.problem == proving.NO_TIME for each in kept[0].trials) == 4
        assert int(made.samples.split()[0]) == (64 if limit == 1000 else 16)
        if left_out:
            assert f"{left_out[0].name}: not tried for want of time" in made.why()


def test_a_proof_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    """Nobody who reads meanwhile sees a part of one, and none is lost where the disk is full."""
    graph = tmp_path / "g.pb"
    graph.write_bytes(b"one")
    files = GraphFiles(graph)
    small = proof(SESSION, SAME, key=acceleration.key_of(files))
    place = acceleration.write(small, files, tmp_path)
    # More than what this process may write into one file from now on.
    large = evolve(small, samples="8" * 100_000)
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, was[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            acceleration.write(large, files, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)
    assert acceleration.read(files, tmp_path) == small
    assert sorted(each.name for each in tmp_path.iterdir()) == ["g.pb", place.name]
    acceleration.write(large, files, tmp_path)
    assert acceleration.read(files, tmp_path) == large


class SignalStack(ctypes.Structure):
    """What sigaltstack(2) tells."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int | None, int]:
    """Where the handlers of signals run that interrupt this thread."""
    told = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(told)) == 0
    return told.start, told.size


def test_the_thread_that_loads_keeps_its_stack_for_signals() -> None:
    pytest.importorskip("openvino")
    before = signal_stack()
    model = openvino.load(GraphFiles(embedded.GRAPH), **KEYS, one_by_one=True)
    assert model.infer(model.example)
    assert signal_stack() == before
