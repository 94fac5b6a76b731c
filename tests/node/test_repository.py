# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import ModelUnusable
from smls_node.repository import (
    File,
    Part,
    Parts,
    Seen,
    Source,
    Wanted,
    check,
    look,
    settle,
    wanted,
)
from smls_node.settings import Limits, ModelSettings

ROOT = Path("/models")
SOURCE = Source(ROOT)
DEFAULTS = ModelSettings(Path())

PARTS = [Part(ROOT / name, version) for name in "ab" for version in ("", "1", "2")]
FILES = st.lists(st.builds(File, st.just("f"), st.integers(0, 1)), max_size=2).map(tuple)
LOOKS = st.builds(
    Seen,
    st.dictionaries(st.sampled_from(PARTS), FILES),
    st.dictionaries(st.sampled_from([ROOT / "a", ROOT / "b"]), st.just("why"), max_size=1),
)


def model(name: str = "m", toml: str | None = None, own: str = "", **versions: str) -> Parts:
    """A model's folder with these files, and those of each version given as ``v1="a.pb b.txt"``."""
    settings = [] if toml is None else [File("smls.toml", text=toml)]
    parts = {Part(ROOT / name): (*map(File, own.split()), *settings)}
    for version, files in versions.items():
        parts[Part(ROOT / name, version[1:])] = tuple(map(File, files.split()))
    return parts


def of(parts: Parts, *, taken: tuple[str, ...] = ()) -> Wanted:
    return wanted(parts, [SOURCE], DEFAULTS, taken)


@given(st.lists(LOOKS, min_size=2, max_size=6))
def test_what_counts_was_found_by_two_looks_in_a_row(looks: list[Seen]) -> None:
    settled: Parts = {}
    for index in range(1, len(looks)):
        before, now = looks[index - 1 : index + 1]
        after = settle(settled, before, now)
        for part in PARTS:
            if part.model in {*before.unreadable, *now.unreadable}:
                assert after.get(part) == settled.get(part)
            elif before.parts.get(part) == now.parts.get(part):
                assert after.get(part) == now.parts.get(part)
            else:
                assert after.get(part) == settled.get(part)
        settled = after


def test_the_latest_version_is_wanted_with_its_graph_and_labels() -> None:
    found = of(model(v1="g.pb labels.txt", v010="g.pb labels.txt", v9="g.pb labels.txt"))
    (edition,) = found.editions
    assert (edition.name, edition.version, edition.problem) == ("m", "10", "")
    assert edition.settings.path == ROOT / "m/010/g.pb"
    assert edition.settings.labels == ROOT / "m/010/labels.txt"
    assert found.notes == ()


def test_labels_and_settings_may_be_the_models() -> None:
    toml = 'versions = "all"\nmax_batch_size = 3\nversion_labels = {stable = 1}'
    found = of(model(toml=toml, own="my_labels_en.txt", v1="g.pb", v2="g.pb labels.txt"))
    first, second = found.editions
    assert first.settings.labels == ROOT / "m/my_labels_en.txt"
    assert second.settings.labels == ROOT / "m/2/labels.txt"
    assert first.settings.limits == second.settings.limits == Limits(3)
    assert found.labels == {"m": {"stable": "1"}}


def test_a_model_without_versions_is_its_first() -> None:
    (edition,) = of(model(toml="", own="model.pb other.pb labels.txt")).editions
    assert (edition.version, edition.settings.path) == ("1", ROOT / "m/model.pb")


@pytest.mark.parametrize(
    ("files", "format", "path"),
    [
        ("saved_model.pb fingerprint.pb keras_metadata.pb variables/variables.index", "savedmodel",
         ""),
        ("model.savedmodel/saved_model.pb model.savedmodel/variables/variables.index",
         "savedmodel", "model.savedmodel"),
        ("model.graphdef labels.txt", "graph", "model.graphdef"),
        ("model.onnx model.onnx.data", "onnx", "model.onnx"),
        ("model.pt config.pbtxt", "torchscript", "model.pt"),
        ("iris.skops README.md", "sklearn", "iris.skops"),
        ("iris.joblib", "sklearn", "iris.joblib"),
        ("m.keras labels.txt", "keras", "m.keras"),
        ("m.h5", "keras", "m.h5"),
        ("model.onnx other.onnx other.pb", "onnx", "model.onnx"),
    ],
)  # fmt: skip
def test_each_format_is_known_by_its_files(files: str, format: str, path: str) -> None:
    for parts, folder in ((model(v1=files), "m/1"), (model(own=files), "m")):
        (edition,) = of(parts).editions
        assert edition.problem == ""
        assert edition.settings.format == format
        assert edition.settings.path == ROOT / folder / path


def test_the_format_that_is_named_is_looked_for_alone() -> None:
    (edition,) = of(model(toml='format = "onnx"', v1="a.pb b.onnx saved_model.pb")).editions
    assert (edition.settings.format, edition.settings.path.name) == ("onnx", "b.onnx")


def test_what_a_node_writes_beside_a_graph_makes_no_other_model() -> None:
    def edition(*, beside: str = "", size: int = 1) -> object:
        files = (File("g.pb", size), File("labels.txt"), *map(File, beside.split()))
        (found,) = of({Part(ROOT / "m"): (), Part(ROOT / "m", "1"): files}).editions
        assert found.problem == ""
        return found

    assert edition() == edition(beside="g.pb.proof.json") == edition(beside="g.pb.openvino")
    assert edition() != edition(beside="g.pb.data")
    assert edition() != edition(size=2)


def test_a_saved_model_is_another_when_its_variables_are() -> None:
    def edition(size: int, readme: int) -> object:
        names = (File("saved_model.pb"), File("variables/variables.index", size))
        return of({Part(ROOT / "m"): (), Part(ROOT / "m", "1"): (*names, File("README", readme))})

    assert edition(1, 1) == edition(1, 2)
    assert edition(1, 1) != edition(2, 1)


def test_what_is_not_read_is_noted() -> None:
    found = of(model(own="config.pbtxt", v1="model.onnx"))
    assert found.notes == (
        "/models/m/config.pbtxt is not read: what it says of batches may stand in smls.toml",
    )


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (model(v1="labels.txt"), "/models/m/1: got labels.txt, wanted a model: one of .pb"),
        (model(v1="a.pb b.pb labels.txt"), "got a.pb (graph), b.pb (graph), wanted one model"),
        (model(v1="a.pb b.onnx"), "/models/m/1: got a.pb (graph), b.onnx (onnx), wanted one"),
        (model(v1="saved_model.pb model.onnx"), "got saved_model.pb (savedmodel), model.onnx"),
        (model(toml='format = "keras"', v1="a.onnx"), "got a.onnx, wanted a model: one of .keras"),
        (model(toml='format = "kreas"', v1="a.onnx"), "format: got 'kreas', wanted one of graph"),
        (model(v1="a.pb"), "/models/m/1: its labels, labels.txt, are neither there nor in"),
        (model(v1="a.pb a_labels.txt b_labels.txt"), "got a_labels.txt, b_labels.txt, wanted one"),
        (model(toml='labels = "x.txt"', v1="a.pb labels.txt"), "its labels, x.txt, are neither"),
        (model(toml="surplus = 1", v1="a.pb labels.txt"), "/models/m/smls.toml: surplus: no such"),
        (model(v1="a.pb labels.txt", v01="a.pb labels.txt"), "are one version"),
    ],
)
def test_a_version_that_cannot_be_loaded_says_why(parts: Parts, told: str) -> None:
    (edition,) = of(parts).editions
    assert told in edition.problem


def test_what_is_not_served_is_noted() -> None:
    assert "holds no version" in of(model(v1="")).notes[0]
    assert "wanted a name like" in of(model("bad name", v1="a.pb labels.txt")).notes[0]
    assert "a --graph is model m already" in of(model(v1="a.pb l"), taken=("m",)).notes[0]
    there = of(model(toml='versions = "specific:1,4"', v1="a.pb labels.txt"))
    assert "there is no version 4" in there.notes[0]
    assert [each.version for each in there.editions] == ["1"]
    other = Path("/others")
    twice = {**model(v1="a.pb labels.txt"), Part(other / "m"): (), Part(other / "m", "2"): ()}
    found = wanted(twice, [SOURCE, Source(other)], DEFAULTS)
    assert [each.version for each in found.editions] == ["1"]
    assert found.notes == ("/others/m is not served: /models/m is model m already",)


def test_other_files_or_settings_are_another_edition_and_the_rest_is_not() -> None:
    def edition(toml: str, size: int, readme: int) -> object:
        files = (File("README", readme), File("a.pb", size), File("labels.txt"))
        return of({**model(toml=toml), Part(ROOT / "m", "1"): files}).editions[0]

    before = edition("", 1, 1)
    assert edition("version_labels = {a = 1}", 1, 2) == before
    assert edition("", 2, 1) != before
    assert edition("max_batch_size = 2", 1, 1) != before


def test_a_look_at_real_folders(tmp_path: Path) -> None:
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (version / "a.pb").write_bytes(b"graph")
    (version / ".hidden").write_bytes(b"")
    (version / "variables").mkdir()
    (version / "variables" / "variables.index").write_bytes(b"variables")
    (version / "variables" / ".draft").write_bytes(b"")
    (tmp_path / "m" / "smls.toml").write_text("runs = 1")
    (tmp_path / ".draft" / "1").mkdir(parents=True)
    (tmp_path / "README").write_text("of nobody")
    (tmp_path / "m" / "2").symlink_to("1")
    seen = look([Source(tmp_path)])
    assert seen == look([Source(tmp_path / "m", is_model=True)])
    model = tmp_path / "m"
    assert seen.parts.keys() == {Part(model), Part(model, "1"), Part(model, "2")}
    assert [(each.name, each.text) for each in seen.parts[Part(model)]] == [
        ("smls.toml", "runs = 1")
    ]
    graph, variables = seen.parts[Part(model, "1")]
    assert (graph.name, graph.size) == ("a.pb", 5)
    assert (variables.name, variables.size) == ("variables/variables.index", 9)
    os.utime(version / "a.pb", ns=(1, 1))
    assert look([Source(tmp_path)]).parts[Part(model, "1")] != (graph, variables)
    with pytest.raises(OSError, match="absent"):
        look([Source(tmp_path / "absent")])


def test_what_is_no_source_is_told(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "n" / "variables").mkdir(parents=True)
    (tmp_path / "n" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "smls.toml").write_bytes(b"")
    check([Source(tmp_path), *(Source(tmp_path / name, is_model=True) for name in "mnp")])
    with pytest.raises(ModelUnusable, match="there is no such folder"):
        check([Source(tmp_path / "absent")])
    with pytest.raises(ModelUnusable, match="holds neither versions"):
        check([Source(tmp_path, is_model=True)])


def described(name: str = "m", text: str = "{}", own: str = "", **versions: str) -> Parts:
    """As ``model``, with a ``model-settings.json``."""
    parts = dict(model(name, own=own, **versions))
    parts[Part(ROOT / name)] += (File("model-settings.json", text=text),)
    return parts


CLASS = '{"name": "doc-sim", "implementation": "my_model.C", "parameters": {"version": "v2"}}'


def test_a_class_is_a_model_of_the_name_and_version_that_its_settings_say() -> None:
    (edition,) = of(described(text=CLASS, own="my_model.py weights.bin")).editions
    assert (edition.name, edition.version, edition.problem) == ("doc-sim", "v2", "")
    assert edition.settings.path == ROOT / "m"
    assert edition.settings.implementation == "my_model.C"
    assert {each.name for each in edition.stamps if isinstance(each, File)} == {
        "my_model.py",
        "model-settings.json",
    }
    assert of(described(text=CLASS), taken=("doc-sim",)).notes == (
        "/models/m is not served: a --graph is model doc-sim already",
    )
    two = {**described("a", CLASS), **described("b", CLASS)}
    assert of(two).notes == ("/models/b is not served: /models/a is model doc-sim already",)


def test_versions_of_a_class_are_numbers() -> None:
    (edition,) = of(described(text=CLASS, v1="my_model.py", v3="my_model.py")).editions
    assert (edition.version, edition.settings.path) == ("3", ROOT / "m/3")


def test_a_uri_says_where_the_model_is() -> None:
    text = '{"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./m.skops"}}'
    (edition,) = of(described(text=text, own="m.skops")).editions
    assert (edition.settings.format, edition.settings.path) == ("sklearn", ROOT / "m/m.skops")


def test_a_settings_file_that_is_wrong_is_a_problem_and_so_are_two() -> None:
    (edition,) = of(described(text='{"implementation": 7}')).editions
    assert "/models/m/model-settings.json: implementation: got 7" in edition.problem
    both = dict(model(toml=""))
    both[Part(ROOT / "m")] += described()[Part(ROOT / "m")]
    (edition,) = of(both).editions
    assert edition.problem == "/models/m: got smls.toml and model-settings.json, wanted one of them"


def test_a_folder_with_settings_alone_is_a_models(tmp_path: Path) -> None:
    (tmp_path / "model-settings.json").write_text(CLASS)
    source = Source(tmp_path, is_model=True)
    check([source])
    (edition,) = wanted(look([source]).parts, [source], DEFAULTS).editions
    assert edition.settings.document is not None
    assert edition.settings.document.text == CLASS
