# SPDX-License-Identifier: MIT
"""``smls.toml``: what the operator says of a model, in the model's own folder."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from smls.errors import ModelUnusable
from smls.wire import NAME
from smls_node.settings import ModelSettings
from smls_node.versions import MAX_VERSION, Policy, policy_from

NAMED = "smls.toml"
"""What the file is called."""


@frozen
class ModelFile:
    """What was said. ``labels`` is the name of the labels' file; ``version_labels`` gives the
    version that each label stands for; ``fields`` and ``limits`` are those of ``ModelSettings``
    and of its ``Limits``."""

    policy: Policy = field(factory=Policy)
    version_labels: Mapping[str, str] = field(factory=dict)
    labels: str | None = None
    fields: Mapping[str, Any] = field(factory=dict)
    limits: Mapping[str, Any] = field(factory=dict)

    def applied(self, settings: ModelSettings) -> ModelSettings:
        """``settings`` with what was said."""
        return evolve(settings, **self.fields, limits=evolve(settings.limits, **self.limits))


@frozen
class _Key:
    """What a key takes, for people, and how it is read: a ``ValueError`` refuses the value.

    ``sets`` is the attribute that it sets, of ``Limits`` where ``limits``.
    """

    wanted: str
    read: Callable[[Any], Any]
    sets: str = ""
    limits: bool = False


def parse(text: str, path: Path) -> ModelFile:
    """What ``text``, the file at ``path``, says.

    :raises ModelUnusable: naming the file, the key, what was got and what was wanted.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelUnusable(f"{path} is no TOML file: {error}") from error
    fields: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, value in table.items():
        if name not in KEYS:
            near = get_close_matches(name, KEYS, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KEYS)}"
            raise ModelUnusable(f"{path}: {name}: no such key{meant}")
        key = KEYS[name]
        try:
            got = key.read(value)
        except ValueError:
            raise ModelUnusable(f"{path}: {name}: got {value!r}, wanted {key.wanted}") from None
        if not key.sets:
            own["policy" if name == "versions" else name] = got
        else:
            (limits if key.limits else fields)[key.sets] = got
    if ("operator_threads" in fields) != ("runs" in fields):
        raise ModelUnusable(f"{path}: operator_threads and runs go together; give both, or neither")
    return ModelFile(fields=fields, limits=limits, **own)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _file_name(value: object) -> str:
    name = _text(value)
    if "/" in name or name.startswith("."):
        raise ValueError
    return name


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError
    return float(value)


def _not_zero(value: object) -> float:
    number = _number(value)
    if number == 0:
        raise ValueError
    return number


def _seconds(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError
    return number


def _whole(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError
    return value


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(sorted(_whole(each, 1, 100_000) for each in value))


def _version_labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 32:
        raise ValueError
    if not all(NAME.fullmatch(label) for label in value):
        raise ValueError
    return {label: str(_whole(number, 0, MAX_VERSION)) for label, number in value.items()}


def _policy(value: object) -> Policy:
    return policy_from(_text(value))


def _counted(least: int, most: int, sets: str, *, limits: bool = False) -> _Key:
    wanted = f"a whole number {least}-{most}"
    return _Key(wanted, lambda value: _whole(value, least, most), sets, limits)


KEYS: dict[str, _Key] = {
    "input_layer": _Key('a layer\'s name, such as "input"', _text, "input_layer"),
    "output_layer": _Key('a layer\'s name, such as "final_result"', _text, "output_layer"),
    "input_mean": _Key("a number", _number, "mean"),
    "input_std": _Key("a number other than 0", _not_zero, "std"),
    "input_height": _counted(1, 10_000, "height"),
    "input_width": _counted(1, 10_000, "width"),
    "labels": _Key("the name of a file in the model's or the version's folder", _file_name),
    "operator_threads": _counted(0, 1024, "operator_threads"),
    "runs": _counted(1, 1024, "runs"),
    "max_batch_size": _counted(1, 100_000, "max_batch_size", limits=True),
    "max_queue_delay": _Key("seconds, 0 or more", _seconds, "max_queue_delay", limits=True),
    "allowed_batch_sizes": _Key(
        "whole numbers such as [1, 4, 16]", _sizes, "allowed_batch_sizes", limits=True
    ),
    "max_queue_size": _counted(1, 10**7, "max_queue_size", limits=True),
    "max_queue_bytes": _counted(1, 10**15, "max_queue_bytes", limits=True),
    "versions": _Key('"latest:N", "all" or "specific:1,3"', _policy),
    "version_labels": _Key(
        "versions by label, such as {stable = 2, canary = 3}, 32 at most", _version_labels
    ),
}
"""The keys that the file may have: those of the command line's options for a model."""
