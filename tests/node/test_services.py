# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smls.errors import BadRequest, ModelUnusable
from smls_node import embedded, serverfile, services
from smls_node.modelfile import KEYS
from smls_node.services import Service
from tests.processes import ROOT, environment

ENCODER = """
import numpy as np

class Encoder:
    def predict(self, texts: list[str]) -> np.ndarray:
        return np.array([[len(text), text.count("a")] for text in texts], np.float32)

class Two:
    def predict(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return {"sum": x + y}

class Upper:
    def predict(self, texts: list[str]) -> list[str]:
        return [text.upper() for text in texts]
"""


@pytest.fixture
def got() -> Iterator[list[Service]]:
    services_: list[Service] = []
    yield services_
    for each in services_:
        each.give_back()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "encoder.py").write_text(ENCODER)
    return tmp_path


def test_the_same_configuration_is_one_object_and_another_is_another(
    folder: Path, got: list[Service]
) -> None:
    def get(_: int = 0, **options: Any) -> Service:
        implementation = options.pop("implementation", "encoder.Encoder")
        service = services.get("encoder", path=folder, implementation=implementation, **options)
        got.append(service)
        return service

    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(get, range(16))))) == 1
    assert get() is get()
    others = [
        get(implementation="encoder.Upper"),
        get(operator_threads=1, runs=2),
        get(version="2"),
    ]
    assert len({id(each) for each in (get(), *others)}) == 4


def test_a_call_gives_what_the_model_naturally_gives(folder: Path, got: list[Service]) -> None:
    got += [
        services.get("m", path=folder, implementation=f"encoder.{name}")
        for name in ("Encoder", "Two", "Upper")
    ]
    encoder, two, upper = got
    assert encoder.run(["banana", ""]).tolist() == [[6, 3], [0, 0]]
    assert encoder.run({"texts": ["a"]})["output-0"].tolist() == [[1, 1]]
    assert upper.run(["a", "b"]) == ["A", "B"]
    assert two.run(x=[[1, 2]], y=[[3, 4]])["sum"].tolist() == [[4, 6]]
    with pytest.raises(BadRequest, match="got one without a name, wanted by name: x, y"):
        two.run([1])
    with pytest.raises(BadRequest, match=r"inputs: got no .y., wanted x: numpy\.ndarray"):
        two.run(x=[[1.0]])


def test_an_images_best_labels(got: list[Service]) -> None:
    digits = services.get("digits", path=embedded.GRAPH, labels=embedded.LABELS)
    got.append(digits)
    path = ROOT / "examples" / "digits" / "three.jpg"
    three = path.read_bytes()
    alone, (again, other) = digits.run(three), digits.run([three, path])
    assert alone[0][0] == "3"
    assert again == other == alone == digits.run(str(path))
    scores = digits.run({_input(digits): np.zeros((2, 32, 32, 3), np.float32)})
    assert [array.shape for array in scores.values()] == [(2, 10)]
    raw = digits.run(np.zeros((2, 32, 32, 3), np.float32))
    assert np.array_equal(raw, scores["final_result"])
    with pytest.raises(BadRequest, match=r"nowhere\.jpg: this image cannot be read: .*No such"):
        digits.run("nowhere.jpg")
    with pytest.raises(BadRequest, match="got int, wanted the bytes or the path of an image file"):
        digits.run([3])


def _input(service: Service) -> str:
    _, signature = service._model.signature()
    return signature.inputs[0].name


def test_a_folder_is_read_as_a_node_reads_it(folder: Path, got: list[Service]) -> None:
    for version, name in ((1, "Encoder"), (2, "Upper")):
        (folder / str(version)).mkdir()
        text = ENCODER.replace(f"class {name}", "class Chosen")
        (folder / str(version) / "encoder.py").write_text(text)
    (folder / "smls.toml").write_text('implementation = "encoder.Chosen"\nversions = "all"\n')
    got += [services.get("m", path=folder, version="1"), services.get("m", path=folder)]
    assert [each.version for each in got] == ["1", "2"]
    assert got[1].run(["a"]) == ["A"]
    with pytest.raises(ModelUnusable, match="version: got '3', wanted one of 1, 2"):
        services.get("m", path=folder, version="3")


def test_what_cannot_be_had_is_named(folder: Path) -> None:
    with pytest.raises(ModelUnusable, match="got the option 'modle', wanted one of device, format"):
        services.get("m", path=folder, modle=1)
    with pytest.raises(ModelUnusable, match="there is no such"):
        services.get("m", path=folder / "nowhere")
    with pytest.raises(ModelUnusable, match="holds neither versions"):
        services.get("m", path=folder)
    (folder / "smls.toml").write_text("runz = 1")
    with pytest.raises(ModelUnusable, match="runz: no such key; did you mean runs"):
        services.get("m", path=folder)


def test_importing_the_package_is_light_and_its_names_are_there() -> None:
    code = (
        "import sys, smls_node\n"
        "heavy = [n for n in ('numpy', 'tensorflow', 'twisted', 'attr') if n in sys.modules]\n"
        "from smls_node import MLModel, decode_args, services\n"
        "late = [n for n in ('tensorflow', 'klein', 'pandas', 'PIL.Image') if n in sys.modules]\n"
        "print(heavy, 'tensorflow' in late, 'twisted.internet.reactor' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False False\n"


@pytest.mark.parametrize(
    "page", ["docs/python-models.md", "examples/document-similarity/README.md"]
)
def test_the_documented_program_runs(page: str) -> None:
    (program,) = re.findall(
        r"^```python\n(from smls_node import services\n.*?)^```",
        (ROOT / page).read_text(),
        re.M | re.S,
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=True,
    )
    assert 0 < float(done.stdout.strip("[]\n")) < 1


def test_every_key_of_the_settings_is_documented() -> None:
    told = "".join(
        (ROOT / "docs" / name).read_text() for name in ("node.md", "models.md", "python-models.md")
    )
    assert [key for key in (*KEYS, *serverfile.KEYS) if f"`{key}`" not in told] == []
