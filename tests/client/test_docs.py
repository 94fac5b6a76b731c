# SPDX-License-Identifier: MIT
"""The programs in docs/client.md run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smls.testing import FakeFleet
from tests.client.fleet import fake_model

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def fleet() -> Iterator[FakeFleet]:
    models = map(fake_model, ("flowers", "encoder", "iris"))
    with FakeFleet(*models, nodes=("box-1", "box-2")) as fleet:
        yield fleet


@pytest.mark.parametrize(("language", "program"), BLOCKS)
def test_it_runs(language: str, program: str, fleet: FakeFleet, tmp_path: Path) -> None:
    (tmp_path / "daisy.jpg").write_bytes(b"image of a daisy")
    command = tmp_path / "bin" / "smls-client"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom smls.cli import main\nmain()\n")
    command.chmod(0o755)
    program = program.replace("http://127.0.0.1:12480", fleet.url)
    path = os.pathsep.join(str(Path(each).resolve()) for each in sys.path if each)
    done = subprocess.run(
        ["sh", "-ec", program] if language == "sh" else [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PATH": f"{command.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
