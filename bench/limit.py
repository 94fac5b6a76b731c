# SPDX-License-Identifier: MIT
"""The in-process limit: what this machine does with a model where nobody serves anything.

A child process holds the graph in one session and runs plain loops on it, as told line by line:
decode only, infer only, or both in the same threads. TensorFlow's operator threads belong to the
process, so each candidate for them is a child of its own; callers and batch vary within it.

Those children run the graph with its convolutions in one piece, and resize as the node does, or the
limit would be below what it limits. One more runs the graph as it is, and resizes with Pillow: the
plain loop that anyone would write, whose start, memory and speed are told beside.
"""

from __future__ import annotations

import gc
import io
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import environments, processes
from bench.models import Model, from_json
from bench.places import LOGS, ROOT

FULL, DRAFT, SCALED = "Pillow", "Pillow draft", "simplejpeg scaled"
"""Decoders: every pixel; JPEG's own scaling (DCT) in Pillow; the same in simplejpeg."""

OURS = "simplejpeg scaled, resized as the node does"
"""The quickest decoder that is known."""


@dataclass(frozen=True)
class Arrangement:
    """``intra_op`` operator threads (0: TensorFlow's choice), ``callers`` threads, batch size."""

    intra_op: int
    callers: int
    batch: int

    def __str__(self) -> str:
        threads = "all" if self.intra_op == 0 else str(self.intra_op)
        return f"intra_op {threads}, {self.callers} callers, batch {self.batch}"


@dataclass
class Found:
    """What ``search`` found: the cells, best first, the fastest decoder, the children; ``plain`` is
    the fastest decoder that has nothing of the node's."""

    cells: list[dict[str, Any]]
    decoder: str
    plain: str
    children: dict[int, Limit]
    """By ``intra_op``."""
    bare: Limit
    """The graph as it is, with the operator threads of the best arrangement."""

    def best(self, batch: int | None = None) -> Arrangement:
        """The best arrangement, or the best one for a batch of that size."""
        for cell in self.cells:
            if batch in (None, cell["batch"]):
                return Arrangement(cell["intra_op"], cell["callers"], cell["batch"])
        raise ValueError(f"best: got batch {batch}, which was not tried")

    def stop(self) -> None:
        """Ends the children."""
        for child in (*self.children.values(), self.bare):
            child.stop()


def arrangements(model: Model) -> list[Arrangement]:
    """The candidates that are tried."""
    cores = processes.cores()
    found = []
    for intra_op in sorted({0, 1}):
        for callers in sorted({1, cores, 2 * cores}):
            if intra_op == 1 and callers < cores:
                continue  # cores would lie idle
            found += [Arrangement(intra_op, callers, batch) for batch in model.batches]
    return found


class Limit:
    """A child process with one session; ``start_seconds`` is from spawn to its first answer.

    ``folded``: of the graph with its convolutions in one piece.
    """

    def __init__(self, model: Model, intra_op: int, *, folded: bool = False) -> None:
        self.intra_op = intra_op
        kind = "folded" if folded else "bare"
        command = [sys.executable, "-m", "bench.limit", model.to_json(), str(intra_op), kind]
        LOGS.mkdir(parents=True, exist_ok=True)
        self._errors = LOGS / f"limit-{model.name}-{intra_op}-{kind}.log"
        start = time.monotonic()
        with self._errors.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environments.variables(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.first = self._answer()
        self.start_seconds = time.monotonic() - start
        self.first_memory_mb = processes.memory_mb(self.process.pid)

    def run(
        self,
        what: str,
        seconds: float,
        callers: int = 1,
        batch: int = 1,
        decoder: str = FULL,
    ) -> dict[str, float]:
        """``decode``, ``infer`` or ``both`` for so long: images ``per_second``, ``p50``, ``p99``.

        The percentiles are of one caller's turn with one batch, in milliseconds.
        """
        question = {"seconds": seconds, "callers": callers, "batch": batch, "decoder": decoder}
        figures: dict[str, float] = self._ask({"do": what, **question})
        return figures

    def answers(self) -> list[list[tuple[str, float]]]:
        """The five best labels with scores for each image, with the plain decoder."""
        return [
            [(label, score) for label, score in row] for row in self._ask({"do": "answers"})["rows"]
        ]

    def decoders(self) -> list[str]:
        """The decoders that are installed."""
        return list(self.first["decoders"])

    def memory_mb(self) -> float:
        """What the process takes now."""
        return processes.memory_mb(self.process.pid)

    def stop(self) -> None:
        """Ends the child."""
        processes.end(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the in-process loop ended: {self._errors.read_text()[-600:]}")
        return json.loads(line)


def search(model: Model, seconds: float) -> Found:
    """Tries each arrangement for so long, with the fastest of the decoders that there are."""
    tried = arrangements(model)
    children = {
        intra_op: Limit(model, intra_op, folded=True)
        for intra_op in sorted({each.intra_op for each in tried})
    }
    costs = {
        decoder: children[1].run("decode", seconds / 2, decoder=decoder)["p50"]
        for decoder in children[1].decoders()
    }
    decoder, plain = (
        min(names, key=lambda name: costs[name]) for names in (costs, costs.keys() - {OURS})
    )
    cells = []
    for each in tried:
        child = children[each.intra_op]
        child.run("both", seconds / 4, each.callers, each.batch, decoder)
        run = child.run("both", seconds, each.callers, each.batch, decoder)
        cells.append({**asdict(each), "per_second": run["per_second"]})
    cells.sort(key=lambda cell: -cell["per_second"])
    return Found(cells, decoder, plain, children, Limit(model, cells[0]["intra_op"]))


# Below is what runs in the child.


def _decoders(side: int) -> dict[str, Callable[[bytes], Any]]:
    import numpy as np
    from PIL import Image

    scale = np.float32(1 / 255)

    def pixels(image: Any) -> Any:
        sized = image.resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(sized, np.float32) * scale

    def jpeg(data: bytes) -> Any:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, min_factor=1)

    def full(data: bytes) -> Any:
        return pixels(Image.open(io.BytesIO(data)).convert("RGB"))

    def draft(data: bytes) -> Any:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (side, side))
        return pixels(image.convert("RGB"))

    found: dict[str, Callable[[bytes], Any]] = {FULL: full, DRAFT: draft}
    try:
        import simplejpeg
    except ImportError:
        return found

    def scaled(data: bytes) -> Any:
        return pixels(Image.fromarray(jpeg(data)))

    def ours(data: bytes) -> Any:
        from smls_node.resizing import resized  # Here, for the plain loop starts without it.

        return resized(jpeg(data), side, side).astype(np.float32) * scale

    found[SCALED], found[OURS] = scaled, ours
    return found


def _graph(definition: Any) -> Any:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.import_graph_def(definition, name="")
    return graph


def _folded(graph: Any, model: Model, config: Any) -> Any:
    import tensorflow as tf

    from smls_node.runtimes import folding  # Here, for the plain loop starts without it.

    def values(tensors: list[Any]) -> list[Any]:
        with tf.compat.v1.Session(graph=graph, config=config) as session:
            found: list[Any] = session.run(tensors)
        return found

    faster = folding.folded(graph, (model.input_layer, model.output_layer), values)
    return graph if faster is None else _graph(faster)


class _Loops:
    def __init__(self, model: Model, intra_op: int, kind: str) -> None:
        import numpy as np
        import tensorflow as tf

        self._numpy = np
        # One inter-op thread would let one caller run at a time.
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op,
            inter_op_parallelism_threads=max(2, processes.cores()),
        )
        graph = _graph(tf.compat.v1.GraphDef.FromString(Path(model.graph).read_bytes()))
        if kind == "folded":
            graph = _folded(graph, model, config)
        session = tf.compat.v1.Session(graph=graph, config=config)
        self._run = session.make_callable(f"{model.output_layer}:0", [f"{model.input_layer}:0"])
        self._labels = Path(model.labels).read_text().splitlines()
        self._images = [file.read_bytes() for file in model.image_files()]
        self.decoders = _decoders(model.side)
        self._ready = [self.decoders[FULL](image) for image in self._images[:8]]

    def top(self, scores: Any) -> list[tuple[str, float]]:
        """label_image's answer: the five best, best first."""
        best = self._numpy.argpartition(scores, -5)[-5:]
        best = best[self._numpy.argsort(-scores[best])]
        return [(self._labels[index], float(scores[index])) for index in best]

    def answers(self) -> list[list[tuple[str, float]]]:
        """The answer to each image alone."""
        decode = self.decoders[FULL]
        return [self.top(self._run(decode(image)[None])[0]) for image in self._images]

    def turn(self, what: str, decode: Callable[[bytes], Any], start: int, batch: int) -> None:
        """One caller's turn with one batch."""
        stack = self._numpy.stack
        images = [self._images[(start + index) % len(self._images)] for index in range(batch)]
        if what == "decode":
            for image in images:
                decode(image)
            return
        if what == "infer":
            inputs = stack([self._ready[index % len(self._ready)] for index in range(batch)])
        else:
            inputs = stack([decode(image) for image in images])
        for row in self._run(inputs):
            self.top(row)

    def loop(self, question: dict[str, Any]) -> dict[str, float]:
        """Runs ``callers`` threads for ``seconds``."""
        decode = self.decoders[question["decoder"]]
        callers, batch = question["callers"], question["batch"]
        times: list[list[float]] = [[] for _ in range(callers)]
        begin = time.perf_counter()
        until = begin + question["seconds"]

        def call(caller: int) -> None:
            at = caller * len(self._images) // callers
            now = time.perf_counter()
            while now < until:
                self.turn(question["do"], decode, at, batch)
                at += batch
                after = time.perf_counter()
                times[caller].append(after - now)
                now = after

        threads = [threading.Thread(target=call, args=(index,)) for index in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - begin
        turns = sorted(second for each in times for second in each)
        return {
            "per_second": len(turns) * batch / taken,
            "p50": statistics.median(turns) * 1e3,
            "p99": turns[int(len(turns) * 0.99)] * 1e3,
        }


def _child(model: Model, intra_op: int, kind: str) -> None:
    loops = _Loops(model, intra_op, kind)
    loops.turn("both", loops.decoders[FULL], 0, 1)
    print(json.dumps({"decoders": list(loops.decoders)}), flush=True)
    # One full collection of what TensorFlow's import leaves stops all threads for 0.17 s.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "answers":
            print(json.dumps({"rows": loops.answers()}), flush=True)
        else:
            print(json.dumps(loops.loop(question)), flush=True)


if __name__ == "__main__":
    _child(from_json(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
