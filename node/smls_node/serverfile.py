# SPDX-License-Identifier: MIT
"""``settings.json``: what MLServer's users say of the server, in the folder that is served.

It stands for options of the command line, which override it.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attrs import frozen

from smls.errors import ModelUnusable
from smls_node.modelfile import described

NAMED = "settings.json"


@frozen
class _Key:
    """What a key takes, for people; the option that it stands for; and how it is said there,
    ``None`` where it is not lawful."""

    wanted: str
    option: str
    said: Callable[[Any], str | None]


def options(text: str, path: Path) -> list[str]:
    """The options that ``text``, the file at ``path``, stands for.

    :raises ModelUnusable: naming the file, the key, what was got and what was wanted.
    """
    found: list[str] = []
    for name, value in described(text, path).items():
        if name in UNUSED:
            continue
        if name not in KEYS:
            near = get_close_matches(name, [*KEYS, *UNUSED], 1)
            meant = f"; did you mean {near[0]}?" if near else f"; used are {', '.join(KEYS)}"
            raise ModelUnusable(f"{path}: {name}: no such key{meant}")
        key = KEYS[name]
        said = key.said(value)
        if said is None:
            raise ModelUnusable(f"{path}: {name}: got {value!r}, wanted {key.wanted}")
        found += [f"--{key.option}", said]
    return found


def _counted(most: int) -> Callable[[Any], str | None]:
    def said(value: Any) -> str | None:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return str(value) if is_number and 0 <= value <= most else None

    return said


def _workers(value: Any) -> str | None:
    """MLServer's 0 asks for no process besides its own, which one replica has neither."""
    said = _counted(1024)(value)
    return "1" if said == "0" else said


KEYS = {
    "host": _Key(
        'an address such as "0.0.0.0"',
        "host",
        lambda value: value if isinstance(value, str) and value else None,
    ),
    "http_port": _Key("a port, 0-65535", "port", _counted(65535)),
    "parallel_workers": _Key("a whole number 0-1024", "replicas", _workers),
}

UNUSED = frozenset(
    {
        "cache_enabled",
        "cache_size",
        "cors_settings",
        "debug",
        "environments_dir",
        "extensions",
        "grpc_max_message_length",
        "grpc_port",
        "gzip_enabled",
        "kafka_enabled",
        "kafka_servers",
        "kafka_topic_input",
        "kafka_topic_output",
        "load_models_at_startup",
        "logging_settings",
        "metrics_dir",
        "metrics_endpoint",
        "metrics_port",
        "metrics_rest_server_prefix",
        "model_repository_implementation",
        "model_repository_implementation_args",
        "model_repository_root",
        "parallel_workers_timeout",
        "root_path",
        "server_name",
        "server_version",
        "tracing_server",
        "use_structured_logging",
    }
)
"""MLServer's keys that nothing here depends on."""
