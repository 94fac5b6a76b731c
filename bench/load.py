# SPDX-License-Identifier: MIT
"""Load by wrk: it costs next to nothing, so that the servers are measured and not the client."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.models import Model
from bench.places import BENCH, BODIES

FIELD = "data"
"""The form's field that holds the image."""

TIMEOUT_SECONDS = 30
_BOUNDARY = "----smls-bench-7MA4YWxkTrZu0gW"


class NoWrk(Exception):
    """wrk is not installed."""


@dataclass(frozen=True)
class Measured:
    """One run of wrk; times in milliseconds."""

    requests: int
    per_second: float
    mean: float
    p50: float
    p90: float
    p99: float
    slowest: float
    errors: int


@dataclass(frozen=True)
class Bodies:
    """Requests' bodies as files, one an image, and their content type."""

    content_type: str
    files: tuple[Path, ...]


def find_wrk() -> str:
    """The path of wrk.

    :raises NoWrk: where there is none.
    """
    path = shutil.which("wrk")
    if path is None:
        raise NoWrk("the benchmark needs wrk: apt-get install wrk")
    return path


def body(kind: str, image: bytes) -> tuple[str, bytes]:
    """Content type and body that carry one image, as ``form``, ``raw`` or ``v2`` (JSON)."""
    if kind == "form":
        head = (
            f"--{_BOUNDARY}\r\n"
            f'Content-Disposition: form-data; name="{FIELD}"; filename="image.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        tail = f"\r\n--{_BOUNDARY}--\r\n"
        content_type = f"multipart/form-data; boundary={_BOUNDARY}"
        return content_type, head.encode() + image + tail.encode()
    if kind == "raw":
        return "image/jpeg", image
    if kind == "v2":
        tensor = {
            "name": FIELD,
            "shape": [1, 1],
            "datatype": "BYTES",
            "parameters": {"content_type": "base64"},
            "data": [base64.b64encode(image).decode()],
        }
        return "application/json", json.dumps({"inputs": [tensor]}).encode()
    raise ValueError(f"body: got {kind!r}, wanted form, raw or v2")


def bodies(model: Model, kind: str) -> Bodies:
    """All images of a model as bodies on disk, where wrk reads them."""
    directory = BODIES / f"{model.name}-{kind}"
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    content_type = ""
    for image in model.image_files():
        content_type, data = body(kind, image.read_bytes())
        file = directory / image.stem
        file.write_bytes(data)
        files.append(file)
    return Bodies(content_type, tuple(files))


def drive(
    url: str, load: Bodies, connections: int, seconds: float, within: Sequence[str] = ()
) -> Measured:
    """Keeps ``connections`` requests in flight for ``seconds``; each connection is kept alive.

    ``within`` is what the command line begins with where it is to run somewhere else.

    :raises RuntimeError: where wrk fails.
    """
    whole = max(1, round(seconds))
    command = [
        *(*within, find_wrk(), "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{whole}s", "--timeout", f"{TIMEOUT_SECONDS}s"),
        *("--script", str(BENCH / "post.lua"), url, "--"),
        *(load.content_type, *map(str, load.files)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=whole + 120, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return _measured(json.loads(line.removeprefix("RESULT ")))
    raise RuntimeError(f"wrk failed: {(done.stderr or done.stdout).strip()[-400:]}")


def _measured(values: dict[str, float]) -> Measured:
    return Measured(
        requests=int(values["requests"]),
        per_second=values["requests"] / (values["duration"] / 1e6),
        mean=values["mean"] / 1e3,
        p50=values["p50"] / 1e3,
        p90=values["p90"] / 1e3,
        p99=values["p99"] / 1e3,
        slowest=values["max"] / 1e3,
        errors=int(values["not_ok"] + values["broken"] + values["timeouts"]),
    )
