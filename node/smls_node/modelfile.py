# SPDX-License-Identifier: MIT
"""``smls.toml`` or ``model-settings.json``: what is said of a model, in the model's own folder.

Both take the same keys: ours, and those of MLServer's ``model-settings.json``.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from smls.datatypes import KINDS
from smls.errors import ModelUnusable
from smls.wire import NAME
from smls_node.layout import LAYOUTS
from smls_node.settings import (
    SCORES,
    Channels,
    Document,
    ModelSettings,
    Tensor,
    channels,
    deviations,
    device_name,
)
from smls_node.versions import MAX_VERSION, Policy, policy_from

NAMED = "smls.toml"
"""What the file is called."""

DESCRIBED = "model-settings.json"
"""What MLServer's users call it."""

FILES = (NAMED, DESCRIBED)


def counts(name: str) -> bool:
    """Whether a file in the folder of a user's own class makes another model of it: its code and
    its settings do. What else lies there may be the model's own to write.
    """
    return name.endswith(".py") or name in FILES


IMPLEMENTATIONS = {
    "mlserver_sklearn.SKLearnModel": "sklearn",
    "mlserver_onnx.OnnxModel": "onnx",
}
"""MLServer's own classes for a library, and the format that we run in their place."""


@frozen
class ModelFile:
    """What was said. ``labels`` is the name of the labels' file; ``version_labels`` gives the
    version that each label stands for; ``fields``, ``limits`` and ``device`` are those of
    ``ModelSettings``, of its ``Limits`` and of its ``Device``. ``name`` and ``version`` stand for
    those that the folders tell; ``uri`` is where the model's files are."""

    policy: Policy = field(factory=Policy)
    version_labels: Mapping[str, str] = field(factory=dict)
    labels: str | None = None
    name: str | None = None
    version: str | None = None
    uri: str | None = None
    fields: Mapping[str, Any] = field(factory=dict)
    limits: Mapping[str, Any] = field(factory=dict)
    device: Mapping[str, Any] = field(factory=dict)

    def applied(self, settings: ModelSettings) -> ModelSettings:
        """``settings`` with what was said."""
        return evolve(
            settings,
            **self.fields,
            limits=evolve(settings.limits, **self.limits),
            device=evolve(settings.device, **self.device),
        )


@frozen
class _Key:
    """What a key takes, for people, and how it is read: a ``ValueError`` refuses the value.

    ``sets`` is the attribute that it sets, and ``of`` which of ``ModelFile``'s mappings has it;
    ``None`` is for keys that are for a class of the user's own, or that nothing here depends on.
    """

    wanted: str
    read: Callable[[Any], Any]
    sets: str | None = ""
    of: str = "fields"


def parse(text: str, path: Path) -> ModelFile:
    """What ``text``, the file at ``path``, says.

    :raises ModelUnusable: naming the file, the key, what was got and what was wanted.
    """
    table = described(text, path)
    told: dict[str, Any] = {"fields": {}, "limits": {}, "device": {}}
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
        if isinstance(got, _Own):
            own.update(got)
        elif key.sets is None:
            continue
        elif not key.sets:
            own["policy" if name == "versions" else name] = got
        else:
            told[key.of][key.sets] = got
    fields = told["fields"]
    if fields.get("implementation") in IMPLEMENTATIONS:
        fields["format"] = IMPLEMENTATIONS[fields.pop("implementation")]
    elif "implementation" in fields:
        fields["document"] = Document(path, text)
    if ("operator_threads" in fields) != ("runs" in fields):
        raise ModelUnusable(f"{path}: operator_threads and runs go together; give both, or neither")
    return ModelFile(**{**own, **told})


def described(text: str, path: Path) -> Mapping[str, Any]:
    """The keys and values of ``text``, the file at ``path``, as they stand there.

    :raises ModelUnusable: naming the file, where it is malformed.
    """
    try:
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelUnusable(f"{path} is no TOML file: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelUnusable(f"{path} is no JSON file: {error}") from error
    if not isinstance(table, dict):
        raise ModelUnusable(f"{path}: got {type(table).__name__}, wanted an object with keys")
    return table


class _Own(dict[str, Any]):
    """Attributes of ``ModelFile`` that one key sets."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _said(value: object) -> str:
    """MLServer's empty text is its default."""
    return _text(value) if value != "" else ""


def _file_name(value: object) -> str:
    name = _text(value)
    if "/" in name or name.startswith("."):
        raise ValueError
    return name


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError
    return float(value)


def _numbers(value: object) -> list[float]:
    return [_number(each) for each in (value if isinstance(value, list) else [value])]


def _mean(value: object) -> Channels:
    return channels(_numbers(value))


def _std(value: object) -> Channels:
    return deviations(_numbers(value))


def _one_of(names: Sequence[str], sets: str) -> _Key:
    def read(value: object) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return _Key(" or ".join(f'"{name}"' for name in names), read, sets)


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


def _policy(value: object) -> Any:
    """MLServer has the versions of the libraries that a model was made with under this key."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return _Own()
    return policy_from(_text(value))


def _yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _part(value: object) -> float:
    number = _number(value)
    if not 0 < number <= 1:
        raise ValueError
    return number


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(map(_text, value))


def _device(value: object) -> str:
    return device_name(_text(value))


def _tensors(value: object) -> tuple[Tensor, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(map(_tensor, value))


def _tensor(value: object) -> Tensor:
    """As the Open Inference Protocol describes it; MLServer's may have parameters besides."""
    if not isinstance(value, dict) or not value.keys() <= {*_TENSOR}:
        raise ValueError
    shape, datatype = value.get("shape"), _text(value.get("datatype"))
    if not isinstance(shape, list) or datatype not in KINDS:
        raise ValueError
    sides = tuple(_whole(side, -1, 2**63) for side in shape)
    return Tensor(_text(value.get("name")), datatype, sides)


_TENSOR = ("name", "datatype", "shape", "parameters")


def _name(value: object) -> str:
    name = _text(value)
    if not NAME.fullmatch(name):
        raise ValueError
    return name


def _implementation(value: object) -> str:
    name = _text(value)
    is_foreign = name.startswith("mlserver") and name not in IMPLEMENTATIONS
    if is_foreign or not re.fullmatch(r"[\w-]+(\.[\w-]+)*\.[^\W\d]\w*", name):
        raise ValueError
    return name


def _model_parameters(value: object) -> _Own:
    if not isinstance(value, dict) or not isinstance(value.get("extra") or {}, dict):
        raise ValueError
    own = _Own()
    if value.get("uri") is not None:
        own["uri"] = _text(value["uri"])
    if value.get("version") is not None:
        own["version"] = _name(str(value["version"]))
    for key in ("format", "content_type"):
        if value.get(key) is not None:
            _text(value[key])
    return own


def _anything(value: object) -> None: ...


def _batch_size(value: object) -> int | None:
    """MLServer's 0 is its default, which leaves it to the model."""
    return _whole(value, 0, 100_000) or None


def _counted(least: int, most: int, sets: str, of: str = "fields") -> _Key:
    wanted = f"a whole number {least}-{most}"
    return _Key(wanted, lambda value: _whole(value, least, most), sets, of)


_MEAN = "[123.675, 116.28, 103.53]"

_TENSORS = 'tensors such as [{name = "x", datatype = "FP32", shape = [-1, 4]}]'

KEYS: dict[str, _Key] = {
    "format": _Key('a format\'s name, such as "onnx"', _text, "format"),
    "inputs": _Key(_TENSORS, _tensors, "inputs"),
    "outputs": _Key(_TENSORS, _tensors, "outputs"),
    "trust_pickle": _Key("true or false", _yes_or_no, "trust_pickle"),
    "trusted_types": _Key('types\' names, such as ["my.Type"]', _texts, "trusted_types"),
    "device": _Key('"cpu" or "cuda:N"', _device, "name", "device"),
    "gpu_memory_growth": _Key("true or false", _yes_or_no, "memory_growth", "device"),
    "gpu_memory_fraction": _Key("a number above 0, 1 at most", _part, "memory_fraction", "device"),
    "gpu_memory_bytes": _counted(1, 10**15, "memory_bytes", "device"),
    "input_layer": _Key('a layer\'s name, such as "input"', _text, "input_layer"),
    "output_layer": _Key('a layer\'s name, such as "final_result"', _text, "output_layer"),
    "input_mean": _Key(f"a number, or three such as {_MEAN}", _mean, "mean"),
    "input_std": _Key(
        "a number of 1 at least, or three such as [58.395, 57.12, 57.375]: of pixel values of "
        "0-255, so what is said of values of 0-1 times 255",
        _std,
        "std",
    ),
    "input_layout": _one_of(LAYOUTS, "layout"),
    "scores": _one_of(SCORES, "scores"),
    "input_height": _counted(1, 10_000, "height"),
    "input_width": _counted(1, 10_000, "width"),
    "labels": _Key("the name of a file in the model's or the version's folder", _file_name),
    "operator_threads": _counted(0, 1024, "operator_threads"),
    "runs": _counted(1, 1024, "runs"),
    "max_batch_size": _Key("a whole number 0-100000", _batch_size, "max_batch_size", "limits"),
    "max_queue_delay": _Key("seconds, 0 or more", _seconds, "max_queue_delay", "limits"),
    "allowed_batch_sizes": _Key(
        "whole numbers such as [1, 4, 16]", _sizes, "allowed_batch_sizes", "limits"
    ),
    "max_queue_size": _counted(1, 10**7, "max_queue_size", "limits"),
    "max_queue_bytes": _counted(1, 10**15, "max_queue_bytes", "limits"),
    "versions": _Key('"latest:N", "all" or "specific:1,3"', _policy),
    "name": _Key(f"a name like {NAME.pattern}", _name),
    "implementation": _Key(
        '"module.Class" of a module in the folder, or '
        + " or ".join(f'"{name}"' for name in IMPLEMENTATIONS),
        _implementation,
        "implementation",
    ),
    "parameters": _Key(
        'an object such as {"uri": "./model.joblib", "version": "1", "extra": {}}',
        _model_parameters,
    ),
    "max_batch_time": _Key("seconds, 0 or more", _seconds, "max_queue_delay", "limits"),
    "platform": _Key("a text", _said, "platform"),
    **{
        key: _Key("anything", _anything, None)
        for key in ("parallel_workers", "warm_workers", "cache_enabled", "$schema")
    },
    "version_labels": _Key(
        "versions by label, such as {stable = 2, canary = 3}, 32 at most", _version_labels
    ),
}
"""The keys that the file may have: those of the command line's options for a model."""
