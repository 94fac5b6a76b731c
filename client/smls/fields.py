# SPDX-License-Identifier: MIT
"""Reads one field of parsed JSON: its value where it is what is wanted, else a ``BadRecord`` that
names the field, what was got and what was wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from smls.errors import BadRecord

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a node's id, a model and a version may be called."""


def port(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 65536:
        raise BadRecord(f"{field}: got {shown(value)}, wanted a port, or 0 for none")
    return value


def amount(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise BadRecord(
            f"{field}: got {shown(value)}, wanted a number from 0 to a thousand million"
        )
    return float(value)


def mapping(field: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadRecord(f"{field}: got {shown(value)}, wanted a JSON object")
    return value


def items(field: str, value: object, most: int, read: Callable[[str, object], T]) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise BadRecord(f"{field}: got {shown(value)}, wanted a list")
    if len(value) > most:
        raise BadRecord(f"{field}: got {len(value)} items, wanted {most} at most")
    return tuple(read(f"{field}[{index}]", item) for index, item in enumerate(value))


def name(field: str, value: object) -> str:
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise BadRecord(f"{field}: got {shown(value)}, wanted a name like {NAME.pattern}")
    return value


def short(field: str, value: object) -> str:
    return text(field, value, 32)


def text(field: str, value: object, longest: int) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"{field}: got {shown(value)}, wanted text")
    if len(value) > longest:
        raise BadRecord(f"{field}: got {len(value)} characters, wanted {longest} at most")
    if not value.isascii():
        _check_unicode(field, value)
    return value


def _check_unicode(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"{field}: got {shown(value)}, wanted text without surrogates") from error


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
