# SPDX-License-Identifier: MIT
"""Named arrays in files, as ``smls-client infer`` reads and writes them. Needs numpy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.infer import Inference
from smls.inference import read_request
from smls.tensorjson import to_json
from smls.tensors import Tensors

STANDARD_INPUT = "-"


def read(sources: Iterable[str], stdin: BinaryIO) -> Tensors:
    """The arrays that the sources, each ``[NAME=]FILE`` or ``-``, hold together.

    :raises BadRequest: naming the source that cannot be read, or the array that comes twice.
    """
    found: dict[str, NDArray[Any]] = {}
    for source in sources:
        for name, array in _read(source, stdin).items():
            if name in found:
                raise BadRequest(f"{source}: input {name} is there twice")
            found[name] = array
    return found


def write(path: str, found: Inference) -> None:
    """The outputs as an ``.npz``.

    :raises BadRequest: where the file cannot be written.
    """
    # numpy would pickle objects.
    arrays: dict[str, Any] = {
        name: array.astype(np.bytes_) if array.dtype.hasobject else array
        for name, array in found.outputs.items()
    }
    try:
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise BadRequest(f"{path}: {error.strerror}") from error


def as_json(found: Inference) -> dict[str, Any]:
    """The answer as what ``json.dumps`` takes, outputs nested as their shapes say.

    :raises BadRequest: where an output's bytes are no text.
    """
    return {
        "model": found.model,
        "version": found.version,
        "address": found.address,
        "outputs": {
            name: _nested(json.loads(to_json(f"output {name}", array)), array.shape)
            for name, array in found.outputs.items()
        },
    }


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for side in reversed(shape[1:]):
        rows = range(0, len(flat), side) if side else ()
        flat = [flat[begin : begin + side] for begin in rows]
    return flat


def _read(source: str, stdin: BinaryIO) -> Tensors:
    name, _, path = source.rpartition("=")
    try:
        if not path.endswith((".npy", ".npz")):
            content = stdin.read() if path == STANDARD_INPUT else Path(path).read_bytes()
            return _from_json(source, name, content)
        loaded = np.load(path, allow_pickle=False)
    except (OSError, EOFError, BadZipFile, ValueError) as error:
        raise BadRequest(f"{source}: {getattr(error, 'strerror', None) or error}") from error
    if isinstance(loaded, np.ndarray):
        if not name:
            raise BadRequest(f"{source}: name the input, as in NAME={source}")
        return {name: loaded}
    if name:
        raise BadRequest(f"{source}: an .npz has names of its own; leave out {name}=")
    return dict(loaded)


def _from_json(source: str, name: str, content: bytes) -> Tensors:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise BadRequest(f"{source}: neither .npy, .npz nor JSON: {error}") from error
    if name:
        value = {name: value}
    if not isinstance(value, dict):
        raise BadRequest(f"{source}: got a list or a plain value, wanted inputs by their names")
    if "inputs" in value and isinstance(value["inputs"], list):
        return read_request(content, None).inputs
    return {key: _array(f"{source}: {key}", each) for key, each in value.items()}


def _array(where: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        raise BadRequest(f"{where}: got lists of unlike lengths") from None
    if array.dtype.kind not in "biufU":
        raise BadRequest(f"{where}: got something else, wanted numbers, texts, true or false")
    return array.astype(np.float32) if array.dtype.kind == "f" else array
