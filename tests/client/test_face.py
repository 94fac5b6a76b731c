# SPDX-License-Identifier: MIT
"""What ``import smls`` gives, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import smls

NAMES = """
    Attempt BadImage BadRecord BadRequest Balancer BlockingClient BrokenImage Classification
    Client ClientClosed DeadlineExceeded ExpectedCompletion ForkedClient LeastInFlight LoadReport
    ModelNotFound ModelRecord NoLiveNodes NodeFault NodeRecord NodeRefused NodeUnreachable
    NotAnImage Outcome Overloaded Prediction RegistryUnavailable RequestError RoundRobin ServedModel
    SmlsError
    TooLarge TwoChoices Unavailable Unsupported Want Weighted aio errors
    testing
"""


def test_the_names_are_pinned() -> None:
    assert sorted(smls.__all__) == sorted(NAMES.split())
    for name in smls.__all__:
        assert getattr(smls, name) is not None
        assert name in dir(smls)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        smls.nothing  # noqa: B018


def test_the_import_costs_nothing() -> None:
    code = (
        "import sys, smls\n"
        "assert not {'twisted', 'treq', 'attr', 'click', 'zeroconf'} & set(sys.modules)\n"
        "smls.SmlsError\n"
        "assert 'twisted' not in sys.modules\n"
        "smls.BlockingClient\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


PROGRAM = """
import smls
from smls import aio

async def main() -> None:
    async with smls.Client("http://registry:12480") as client:
        found = await client.classify("daisy.jpg", top=1)
        reveal_type(found.predictions[0].score)
    async with smls.aio.Client(nodes=["node:12480"]) as other:
        reveal_type(await other.nodes())
    with smls.BlockingClient(["http://a", "http://b"]) as blocking:
        reveal_type(blocking.classify(b""))
"""


def test_types_reach_the_user(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    home = str(Path(smls.__file__).parents[1].resolve())
    path = {} if "site-packages" in home else {"MYPYPATH": home}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--config-file=",
            f"--cache-dir={tmp_path}",
            "-c",
            PROGRAM,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.replace("builtins.", "")
    assert 'Revealed type is "float"' in shown
    assert "smls.wire.NodeRecord" in shown
    assert "smls.results.Classification" in shown
