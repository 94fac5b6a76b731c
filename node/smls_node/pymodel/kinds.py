# SPDX-License-Identifier: MIT
"""What a type hint stands for: how a value of it is made of a tensor, and a tensor of a value."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from types import UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from smls.tensors import DATATYPES, datatype_of

Array = NDArray[Any]


@frozen
class Kind:
    """One kind of value. ``take`` makes it of a tensor; ``give`` makes a tensor of it.

    Both raise ``ValueError`` or ``TypeError`` with what is wrong. ``datatype`` and ``shape`` are
    what such a tensor has, as far as the kind alone tells.
    """

    name: str
    take: Callable[[Array], Any]
    give: Callable[[Any], Array]
    datatype: str = "BYTES"
    shape: tuple[int, ...] = (-1,)


def kind_of(hint: Any) -> Kind | None:
    """The kind that ``hint`` stands for; ``None`` where it stands for none that is known.

    >>> kind_of(list[str]).name
    'list[str]'
    """
    hint = without_none(hint)
    if hint is Any:
        return NATURAL
    if hint is np.ndarray or get_origin(hint) is np.ndarray:
        return _arrays(hint)
    if is_image(hint):
        return IMAGE
    if get_origin(hint) is list and get_args(hint):
        (of,) = get_args(hint)
        if without_none(of) == str | datetime or of is datetime:
            return _several(DATETIME)
        each = IMAGE if is_image(of) else _ONES.get(of)
        return _several(each) if each else None
    if hint is list or get_origin(hint) is list:
        return LIST
    return _ONES.get(hint)


def kind_for(value: Any) -> Kind:
    """The kind that ``value`` is of, where no hint says it.

    :raises TypeError: where it is of none that is known.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return ARRAY
    if isinstance(value, list | tuple):
        each = _one_for(value[0]) if value else None
        return _several(each) if each else ARRAY
    found = _one_for(value)
    if found is None:
        raise TypeError(f"got {type(value).__name__}, wanted an array, texts, numbers or an image")
    return found


def without_none(hint: Any) -> Any:
    """``X`` for ``Optional[X]``."""
    if get_origin(hint) in (Union, UnionType):
        rest = tuple(each for each in get_args(hint) if each is not type(None))
        return rest[0] if len(rest) == 1 else Union[rest]  # noqa: UP007
    return hint


def is_image(hint: Any) -> bool:
    """Whether it is Pillow's class of images, which nobody need have imported."""
    return _is_from("PIL", hint) and hint.__name__ == "Image"


def is_frame(hint: Any) -> bool:
    """Whether it is pandas' class of data frames, which nobody need have imported."""
    return _is_from("pandas", hint) and hint.__name__ == "DataFrame"


def natural(array: Array) -> Any:
    """What most would expect of a tensor: a list of texts, or else an array that is one's own."""
    return texts(array) if array.dtype.kind in "OSU" else _own(array)


def texts(array: Array) -> list[str]:
    """The texts of BYTES.

    :raises ValueError: where they are no texts, or not in UTF-8.
    """
    return [_text(each) for each in _elements(array)]


def as_bytes(array: Array) -> Array:
    """Texts of any kind as the objects that BYTES hold."""
    found = np.empty(array.shape, np.object_)
    for index, each in np.ndenumerate(array):
        found[index] = each.encode() if isinstance(each, str) else bytes(each)
    return found


def _is_from(library: str, hint: Any) -> bool:
    return isinstance(hint, type) and hint.__module__.partition(".")[0] == library


def _own(array: Array) -> Array:
    """``array`` where nobody lends it and it may be written to, else a copy."""
    return array if array.flags.owndata and array.flags.writeable else array.copy()


def _elements(array: Array) -> list[Any]:
    if array.dtype.kind not in "OSU":
        raise ValueError(f"got {datatype_of(array.dtype)}, wanted BYTES")
    return list(array.ravel().tolist())


def _text(element: Any) -> str:
    try:
        return element.decode() if isinstance(element, bytes) else str(element)
    except UnicodeDecodeError as error:
        raise ValueError(f"got bytes that are no UTF-8 ({error.reason})") from error


def _array(array: Array) -> Array:
    if array.dtype.kind in "OSU":
        return np.array([_text(each) for each in _elements(array)], np.str_).reshape(array.shape)
    return _own(array)


def _with_rows(value: Any) -> Array:
    """The array that ``value`` is, as MLServer tells it: with two sides at least, of one element
    with one."""
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        array = as_bytes(array)
    datatype_of(array.dtype)
    return array if array.ndim > 1 else array.reshape(*array.shape, 1)


def _image(element: Any) -> Any:
    from PIL import Image

    image = Image.open(io.BytesIO(element if isinstance(element, bytes) else element.encode()))
    image.load()
    return image


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image.format or "PNG")
    return file.getvalue()


def _moment(element: Any) -> datetime:
    return datetime.fromisoformat(_text(element))


def _blob(element: Any) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()


def _object(element: Any) -> dict[str, Any]:
    value = json.loads(element)
    if not isinstance(value, dict):
        raise ValueError(f"got JSON that is no object: {type(value).__name__}")
    return value


def _refuse(wanted: str, value: Any) -> TypeError:
    return TypeError(f"got {type(value).__name__}, wanted {wanted}")


def _one(
    name: str, of: type | tuple[type, ...], take: Callable[[Any], Any], give: Callable[[Any], bytes]
) -> Kind:
    """A kind of which each value is one element of BYTES."""

    def taken(array: Array) -> Any:
        elements = _elements(array)
        if len(elements) != 1:
            raise ValueError(f"got {len(elements)} elements, wanted one")
        return take(elements[0])

    def given(value: Any) -> Array:
        if not isinstance(value, of):
            raise _refuse(name, value)
        return as_bytes(np.array([give(value)], np.object_)).reshape(1, 1)

    return Kind(name, taken, given)


def _number(
    name: str, of: type | tuple[type, ...], make: Callable[[Any], Any], datatype: str
) -> Kind:
    def taken(array: Array) -> Any:
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise ValueError(f"got {datatype_of(array.dtype)} of shape {list(array.shape)}")
        return make(array.item())

    def given(value: Any) -> Array:
        if not isinstance(value, of):
            raise _refuse(name, value)
        return np.array([value], DATATYPES[datatype])

    return Kind(name, taken, given, datatype)


def _several(each: Kind) -> Kind:
    """A list of values of a kind, one an element; given as rows, as MLServer does."""

    def taken(array: Array) -> list[Any]:
        return [each.take(array.reshape(-1)[index : index + 1]) for index in range(array.size)]

    def given(value: Any) -> Array:
        if not isinstance(value, list | tuple):
            raise _refuse(f"list[{each.name}]", value)
        if not value:
            return np.empty((0, 1), DATATYPES[each.datatype])
        return np.concatenate([each.give(one).reshape(1, 1) for one in value])

    return evolve(each, name=f"list[{each.name}]", take=taken, give=given)


def _arrays(hint: Any) -> Kind:
    """Arrays, of the element type that ``NDArray[np.uint8]`` names, where it names one."""
    for argument in get_args(hint)[1:]:
        (named, *_) = get_args(argument) or (None,)
        if isinstance(named, type) and issubclass(named, np.generic):
            try:
                return evolve(ARRAY, datatype=datatype_of(np.dtype(named)))
            except (ValueError, TypeError):
                break
    return ARRAY


ARRAY = Kind("numpy.ndarray", _array, _with_rows, "FP64")
NATURAL = Kind("anything", natural, lambda value: kind_for(value).give(value), "FP64")
LIST = evolve(NATURAL, name="list", take=lambda array: list(natural(array)))
TEXT = _one("str", str, _text, str.encode)
BYTES = _one("bytes", bytes, _blob, lambda value: value)
DATETIME = _one(
    "datetime",
    (datetime, str),
    _moment,
    lambda value: (value if isinstance(value, str) else value.isoformat()).encode(),
)
IMAGE = _one("PIL.Image.Image", object, _image, _png)
OBJECT = _one("dict", Mapping, _object, lambda value: json.dumps(value).encode())

_ONES: dict[Any, Kind] = {
    str: TEXT,
    bytes: BYTES,
    datetime: DATETIME,
    dict: OBJECT,
    bool: _number("bool", (bool, np.bool_), bool, "BOOL"),
    int: _number("int", (int, np.integer), int, "INT64"),
    float: _number("float", (float, int, np.floating, np.integer), float, "FP64"),
}


def _one_for(value: Any) -> Kind | None:
    if is_image(type(value)) or any(map(is_image, type(value).__mro__)):
        return IMAGE
    return next((kind for of, kind in _ONES.items() if type(value) is of), None)


TEXTS = _several(TEXT)
BLOBS = _several(BYTES)
DATETIMES = _several(DATETIME)
