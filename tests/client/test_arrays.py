# SPDX-License-Identifier: MIT
"""Named arrays in files and pipes, as ``smls-client infer`` reads and writes them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.arrays import read, write
from smls.errors import BadRequest
from smls.infer import Inference

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(array: Any = ROWS) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_what_a_file_is_its_bytes_say_and_not_its_name(tmp_path: Path) -> None:
    array, archive = tmp_path / "rows.bin", tmp_path / "year=2026"
    array.write_bytes(npy())
    archive.write_bytes(npz(y=ROWS, z=ROWS[0]))
    found = read([f"x={array}", str(archive)], io.BytesIO())
    assert {name: each.shape for name, each in found.items()} == {
        "x": (2, 3),
        "y": (2, 3),
        "z": (3,),
    }
    named = tmp_path / "a=b.npy"
    named.write_bytes(npy())
    assert read([f"x={named}"], io.BytesIO())["x"].tolist() == ROWS.tolist()


@pytest.mark.parametrize(
    ("source", "content"),
    [("x=-", npy()), ("-", npz(x=ROWS)), ("-", json.dumps({"x": ROWS.tolist()}).encode())],
)
def test_a_pipe_may_hold_any_of_them(source: str, content: bytes) -> None:
    found = read([source], io.BytesIO(content))
    assert found["x"].dtype == np.float32
    assert found["x"].tolist() == ROWS.tolist()


def test_a_tensor_may_be_called_inputs() -> None:
    assert read(["-"], io.BytesIO(b'{"inputs": [[1.5]]}'))["inputs"].tolist() == [[1.5]]
    tensor = {"name": "x", "datatype": "FP16", "shape": [1], "data": [1.5]}
    found = read(["-"], io.BytesIO(json.dumps({"inputs": [tensor]}).encode()))
    assert found["x"].dtype == np.float16


def zipped(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


ENORMOUS = npy().replace(b"(2, 3), }          ", b"(9999999999, 3), } ")


@pytest.mark.parametrize(
    ("source", "content", "told"),
    [
        ("x=-", npy(np.array([{}], object)), "pickle"),
        ("-", npz(x=np.array([{}], object)), "pickle"),
        ("x=-", npy()[:-1], "x=-: "),
        ("-", npz(x=ROWS)[:-9], "zip"),
        ("-", zipped("x.npy", npy()[:-1]), "-: "),
        ("-", zipped("notes.txt", b"hello"), "notes.txt: got a file that is no array"),
        ("x=-", ENORMOUS, "x=-: "),
        ("-", npy(), "NAME="),
        ("a=-", npz(x=ROWS), "names of its own"),
        ("-", b"", "nor JSON"),
        ("-", b"\xff\xfe\xfd", "nor JSON"),
        ("x=-", b"\x93NUMPY\x01\x00\x0b\x00{'descr': '<", "EOF"),
        ("x=-", b"[" * 100_000, "recursion"),
        ("x=-", b"[" * 70 + b"1" + b"]" * 70, "too deep"),
        ("x=-", b'{"a": 1}', "wanted numbers"),
        ("-", b'{"inputs": [{"name": "x"}], "outputs": []}', "'outputs' beside"),
    ],
)
def test_what_cannot_be_read_is_told(source: str, content: bytes, told: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read([source], io.BytesIO(content))
    assert told in refused.value.message


@given(st.data())
def test_whatever_is_read_is_arrays_or_told(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([npy(), npz(x=ROWS), b'{"x": [1, 2.5, "a"]}'])))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        found = read([data.draw(st.sampled_from(["-", "x=-"]))], io.BytesIO(bytes(whole[:cut])))
    except BadRequest:
        return
    assert all(isinstance(each, np.ndarray) for each in found.values())


class Pipe(io.BytesIO):
    """Takes bytes in their order alone."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise OSError("Illegal seek")

    tell = seek


def answer(**outputs: Any) -> Inference:
    return Inference("m", "1", "127.0.0.1:1", outputs)


def test_outputs_go_to_a_file_or_a_pipe(tmp_path: Path) -> None:
    texts = np.array([[b"a", b""], [b"\xff\x00b", b"long"]], np.object_)
    found, pipe = answer(y=ROWS, t=texts), Pipe()
    write("-", found, pipe)
    path = tmp_path / "found.npz"
    write(str(path), found, io.BytesIO())
    for source in (io.BytesIO(pipe.getvalue()), path):
        with np.load(source) as saved:
            assert saved["y"].tolist() == ROWS.tolist()
            assert saved["t"].tolist() == texts.tolist()
    write(str(tmp_path / "y.npy"), answer(y=ROWS), io.BytesIO())
    assert np.load(tmp_path / "y.npy").tolist() == ROWS.tolist()


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("path", "found", "told"),
    [
        ("found.npy", answer(y=ROWS, z=ROWS), "one output, and there are y, z"),
        ("found.npz", answer(t=np.array([b"a\0"], np.object_)), "end in zeros"),
        ("gone/found.npz", answer(y=ROWS), "No such file"),
        ("-", answer(y=ROWS), "terminal"),
    ],
)
def test_what_cannot_be_written_is_told(
    path: str, found: Inference, told: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match=told):
        write(path if path == "-" else str(tmp_path / path), found, Terminal())
    assert not list(tmp_path.iterdir())
