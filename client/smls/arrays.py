# SPDX-License-Identifier: MIT
"""Named arrays in files, as ``smls-client infer`` reads and writes them. Needs numpy."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.infer import Inference
from smls.inference import read_request
from smls.tensorjson import to_json
from smls.tensors import Tensors

STANDARD = "-"
"""Standard input as a source, standard output as where outputs are written."""

ARRAY = b"\x93NUMPY"
ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")
"""How the files of numpy begin: one array, and arrays by name, of which there may be none."""

UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, MemoryError),
    *(SyntaxError, TokenError, BadZipFile, zlib.error),
)
"""What numpy, whose headers are Python, Python's zip files and its JSON raise for what they cannot
read, or what claims to be larger than the memory."""


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


def write(path: str, found: Inference, stdout: BinaryIO) -> None:
    """The outputs as an ``.npz``, or the only one as an ``.npy`` where ``path`` ends so; ``-`` is
    ``stdout``, which takes an ``.npz``.

    :raises BadRequest: where there are several for an ``.npy``, or numpy would cut one off, or the
        file cannot be written.
    """
    arrays = {
        name: _fixed(f"{path}: output {name}", array) for name, array in found.outputs.items()
    }
    is_array = path.endswith(".npy")
    if is_array and len(arrays) != 1:
        names = ", ".join(arrays)
        raise BadRequest(
            f"{path}: an .npy holds one output, and there are {names}; choose one with --output, "
            "or save an .npz"
        )
    if path == STANDARD and stdout.isatty():
        raise BadRequest("-: standard output is a terminal; send it to a file or a pipe")
    try:
        with nullcontext(stdout) if path == STANDARD else open(path, "wb") as file:
            if is_array:
                (array,) = arrays.values()
                np.save(file, array)
            else:
                np.savez(file, **arrays)  # type: ignore[arg-type]
    except BrokenPipeError:
        raise
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


def _fixed(where: str, array: NDArray[Any]) -> NDArray[Any]:
    """``array`` with its texts in numpy's type of a fixed width: it would pickle objects."""
    if not array.dtype.hasobject:
        return array
    fixed = array.astype(np.bytes_)
    if (fixed != array).any():
        raise BadRequest(f"{where}: some of its bytes end in zeros, which numpy would cut off")
    return fixed


def _read(source: str, stdin: BinaryIO) -> Tensors:
    name, path = _named(source)
    try:
        content = stdin.read() if path == STANDARD else Path(path).read_bytes()
        if not content.startswith((ARRAY, *ARCHIVES)):
            return _from_json(source, name, content)
        loaded = np.load(BytesIO(content), allow_pickle=False)
        arrays = loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except UNREADABLE as error:
        raise BadRequest(f"{source}: {getattr(error, 'strerror', None) or error}") from error
    if isinstance(arrays, np.ndarray):
        if not name:
            raise BadRequest(f"{source}: name the input, as in NAME={source}")
        return {name: arrays}
    if name:
        raise BadRequest(f"{source}: an .npz has names of its own; leave out {name}=")
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise BadRequest(f"{source}: {key}: got a file that is no array, wanted an .npy")
    return arrays


def _named(source: str) -> tuple[str, str]:
    """The name and the path in ``[NAME=]FILE``; what is a file as a whole has no name."""
    if "=" not in source or Path(source).exists():
        return "", source
    name, _, path = source.partition("=")
    return name, path


def _from_json(source: str, name: str, content: bytes) -> Tensors:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise BadRequest(f"{source}: neither .npy, .npz nor JSON: {error}") from error
    if name:
        value = {name: value}
    if not isinstance(value, dict):
        raise BadRequest(f"{source}: got a list or a plain value, wanted inputs by their names")
    if _is_request(value):
        for key in value.keys() - {"id", "inputs"}:
            raise BadRequest(f"{source}: got {key!r} beside the inputs, and takes these alone")
        return read_request(content, None).inputs
    return {key: _array(f"{source}: {key}", each) for key, each in value.items()}


def _is_request(value: dict[str, Any]) -> bool:
    """Whether it is one of the Open Inference Protocol, and not a tensor that is called inputs."""
    inputs = value.get("inputs")
    return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], dict)


def _array(where: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        raise BadRequest(f"{where}: got lists of unlike lengths, or too deep ones") from None
    if array.dtype.kind not in "biufU":
        raise BadRequest(f"{where}: got something else, wanted numbers, texts, true or false")
    return array.astype(np.float32) if array.dtype.kind == "f" else array
