# SPDX-License-Identifier: MIT
"""What is installed is what is in the tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOLDERS = {
    "smls": ROOT / "client" / "smls",
    "smls_node": ROOT / "node" / "smls_node",
    "smls_registry": ROOT / "registry" / "smls_registry",
}


def tree() -> set[str]:
    """Each file of the packages, as it should lie in the wheel."""
    found = {"twisted/plugins/smls_plugins.py"}
    for name, folder in FOLDERS.items():
        for path in folder.rglob("*"):
            cached = path.is_dir() or "__pycache__" in path.parts
            if not (cached or path.name.endswith((".proof.json", ".openvino"))):
                found.add(f"{name}/{path.relative_to(folder)}")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel that is built from the tree."""
    out = tmp_path_factory.mktemp("wheel")
    # Not in the tree's own build/: setuptools would pack what an earlier build has left there.
    base = f"--config-setting=--build-option=build --build-base={out / 'build'}"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", out, base, ROOT],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (built,) = out.glob("*.whl")
    assert built.name.startswith("simple_ml_serving-")
    with zipfile.ZipFile(built) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: set[str]) -> None:
    assert wheel == tree()


def test_setup_cfg_lists_every_package() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    packages = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for name, folder in FOLDERS.items()
        for path in folder.rglob("__init__.py")
    }
    assert listed == packages | {"twisted.plugins"}


def test_type_hints_travel(wheel: set[str]) -> None:
    assert {f"{name}/py.typed" for name in FOLDERS} <= wheel
