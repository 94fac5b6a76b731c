# SPDX-License-Identifier: MIT
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smls_node import pymodel
from smls_node.pymodel.modules import ROOT, Modules


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before, path = set(sys.modules), list(sys.path)
    yield
    assert sys.path == path
    left = {each for each in set(sys.modules) - before if each.startswith(f"{ROOT}.")}
    for name in left:
        del sys.modules[name]


def folder(parent: Path, name: str, **files: str) -> Path:
    made = parent / name
    for file, text in files.items():
        path = made / f"{file.replace('__', '/', 1) if file[0] != '_' else file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return made


def test_two_modules_of_one_name_and_their_helpers_do_not_collide(tmp_path: Path) -> None:
    text = "import helper\nfrom . import helper as same\nwho = helper.who\nassert same is helper"
    one = Modules([folder(tmp_path, "one", my_model=text, helper="who = 1")])
    two = Modules([folder(tmp_path, "two", my_model=text, helper="who = 2")])
    assert [one.imported("my_model").who, two.imported("my_model").who] == [1, 2]
    assert "my_model" not in sys.modules
    assert "helper" not in sys.modules


def test_what_is_imported_while_it_runs_is_its_own_too(tmp_path: Path) -> None:
    late = (
        "def who():\n    from helper import who\n    import helper.deep as d\n    return who, d.x"
    )
    files = {"my_model": late, "helper____init__": "who = 3", "helper__deep": "x = 4"}
    made = tmp_path / "m"
    (made / "helper").mkdir(parents=True)
    (made / "my_model.py").write_text(files["my_model"])
    (made / "helper" / "__init__.py").write_text("who = 3")
    (made / "helper" / "deep.py").write_text("from . import who\nx = who + 1")
    assert Modules([made]).imported("my_model").who() == (3, 4)


def test_its_own_come_before_installed_ones_but_a_plain_folder_does_not(tmp_path: Path) -> None:
    made = folder(
        tmp_path, "m", my_model="import numpy, json\nx = json.x\nn = numpy.zeros", json="x = 1"
    )
    (made / "numpy").mkdir()
    (made / "weights").mkdir()
    module = Modules([made]).imported("my_model")
    assert module.x == 1
    assert callable(module.n)
    import json

    assert not hasattr(json, "x")


def test_mlserver_means_what_stands_in_for_it(tmp_path: Path) -> None:
    text = (
        "import mlserver\nfrom mlserver import MLModel, types\n"
        "from mlserver.codecs import decode_args, StringCodec\n"
        "from mlserver.utils import get_model_uri\n"
        "from mlserver.codecs.string import StringCodec as S\n"
        "class Mine(mlserver.MLModel):\n    kind: types.InferenceRequest\n"
    )
    module = Modules([folder(tmp_path, "m", my_model=text)]).imported("my_model")
    assert issubclass(module.Mine, pymodel.MLModel)
    assert module.types.InferenceRequest is pymodel.InferenceRequest
    missing = Modules([folder(tmp_path, "n", my_model="from mlserver import register")])
    with pytest.raises(ImportError, match="cannot import name 'register'"):
        missing.imported("my_model")


def test_a_replaced_file_of_the_same_size_is_read_anew_and_old_ones_are_forgotten(
    tmp_path: Path,
) -> None:
    made = folder(tmp_path, "m", my_model="x = 1")
    first = Modules([made])
    assert first.imported("my_model").x == 1
    folder(tmp_path, "m", my_model="x = 2")
    second = Modules([made])
    assert second.imported("my_model").x == 2
    first.forget()
    assert not [name for name in sys.modules if name.startswith(f"{first.name}.")]
    assert f"{second.name}.my_model" in sys.modules
    assert not (made / "__pycache__").exists()


def test_what_a_module_raises_is_raised_and_a_second_try_runs_it_again(tmp_path: Path) -> None:
    made = folder(tmp_path, "m", my_model="import nowhere")
    modules = Modules([made])
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
            modules.imported("my_model")
    folder(tmp_path, "m", my_model="x = 1")
    assert modules.imported("my_model").x == 1


def test_names_with_a_hyphen_will_do(tmp_path: Path) -> None:
    made = folder(tmp_path, "m", **{"serve-model": "x = 1"})
    assert Modules([made]).imported("serve-model").x == 1
