# SPDX-License-Identifier: MIT
"""The client where nothing but the client is installed."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smls
from smls.testing import FakeFleet, FakeModel

BIN = Path(sys.executable).parent

TENSORS = {"arrays", "infer", "inference", "tensorbytes", "tensorjson", "tensors"}
"""The rooms of the extra ``tensors``."""

EXTRAS = ("klein", "numpy", "PIL", "prometheus_client", "simplejpeg", "tensorflow", "openvino")


@pytest.fixture
def registry() -> Iterator[str]:
    model = FakeModel("digits", classify={"3": 0.9})
    with FakeFleet(model, nodes=["fake"]) as fleet:
        yield fleet.url


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", EXTRAS)
def test_no_extra_is_installed(name: str) -> None:
    assert importlib.util.find_spec(name) is None


def test_every_module_of_the_client_can_be_imported() -> None:
    names = [f"smls.{module.name}" for module in pkgutil.iter_modules(smls.__path__)]
    assert "smls.client" in names
    for name in names:
        if name.removeprefix("smls.") in TENSORS:
            continue
        code = f"import {name}, sys; assert not {set(EXTRAS)!r} & set(sys.modules)"
        assert run(sys.executable, "-c", code).returncode == 0, name


@pytest.mark.parametrize(
    ("command", "extra"), [("smls-node", "node"), ("smls-registry", "registry")]
)
def test_a_server_names_the_extra_that_it_needs(command: str, extra: str) -> None:
    ended = run(BIN / command, "--port", "0", "--host", "127.0.0.1", "--no-mdns")
    assert ended.returncode == 2
    assert f"'simple-ml-serving[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_verb_names_its_extra_too() -> None:
    ended = run(BIN / "smls-node", "accelerate", "model.pb")
    assert ended.returncode == 2
    assert "'simple-ml-serving[openvino]'" in ended.stderr


@pytest.mark.parametrize("command", ["smls-node", "smls-registry", "smls-client"])
def test_help_and_version_need_no_extra(command: str) -> None:
    assert run(BIN / command, "--help").returncode == 0
    assert run(BIN / command, "--version").stdout.startswith("simple-ml-serving ")


def test_tensors_name_the_extra_that_they_need(registry: str) -> None:
    ended = run(BIN / "smls-client", "--registry", registry, "infer", "digits", "x.npz")
    assert ended.returncode == 1
    assert "'simple-ml-serving[tensors]'" in ended.stderr
    with smls.BlockingClient(registry) as client:
        with pytest.raises(smls.errors.MissingExtra, match="tensors"):
            client.infer("digits", {})
        assert [each.name for each in client.models()] == ["digits"]


def test_the_client_classifies(registry: str, tmp_path: Path) -> None:
    image = tmp_path / "three.jpg"
    image.write_bytes(b"any bytes")
    ended = run(BIN / "smls-client", "--registry", registry, "classify", "--json", image)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["predictions"][0]["label"] == "3"
    with smls.BlockingClient(registry) as client:
        assert client.classify(image).node == "fake"
