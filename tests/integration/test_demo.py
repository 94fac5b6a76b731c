# SPDX-License-Identifier: MIT
"""The demo: the whole path, and a clean end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DEMO = [sys.executable, "examples/demo.py"]

SAFE_SECONDS = 240.0

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "smls-node").exists(),
    reason="the demo runs the commands that an installation has",
)


def test_two_nodes_answer_in_turn() -> None:
    done = subprocess.run(
        [*DEMO, "--once"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SAFE_SECONDS,
        check=True,
    )
    images = sorted((ROOT / "examples" / "digits").iterdir())
    named = {"eight": "8", "five": "5", "four": "4", "seven": "7", "three": "3", "two": "2"}
    answered = []
    for image in images:
        row = re.search(rf"{re.escape(image.name)} +(\S+) .* (127\.0\.0\.1:\d+)", done.stdout)
        assert row is not None, done.stdout
        assert row[1] == named[image.stem.split("-")[0]]
        answered.append(row[2])
    first, second = sorted(set(answered))
    assert answered.count(first) == answered.count(second)
    assert "curl -L" in done.stdout


def test_an_interrupt_stops_it_and_leaves_nothing_behind() -> None:
    demo = subprocess.Popen(DEMO, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    urls = []
    for line in demo.stdout:
        urls += re.findall(r"ready at (http://127\.0\.0\.1:\d+)", line)
        if "Ctrl-C ends the demo" in line:
            break
    assert len(urls) == 3
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=SAFE_SECONDS)
    assert demo.returncode == 0, rest
    for url in urls:
        gone = subprocess.run(["curl", "-s", f"{url}/healthz"], timeout=60, check=False)
        assert gone.returncode == 7, "nothing listens there any more"
