# SPDX-License-Identifier: MIT
"""Log lines for people (``text``) and for programs (``json``), both from ``twisted.logger``."""

from __future__ import annotations

import json
import logging
import secrets
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure

from smls.errors import NodeFault

FORMATS = ("text", "json")


def begin(stream: TextIO, log_format: str = "text", name: str = "") -> None:
    """Send this process's log to ``stream``, from ``info`` up, in one of ``FORMATS``.

    ``name`` stands in front of each line, or is a field of it, for one of several processes that
    log to one stream. What libraries and users' models tell Python's own ``logging`` is sent too,
    from the levels that their loggers have. Called by a program's ``main`` alone: importing smls
    configures no logging.
    """
    line = json_line if log_format == "json" else text_line
    formatter: Callable[[LogEvent], str] = partial(line, name=name) if name else line
    levels = LogLevelFilterPredicate(LogLevel.info)
    # Twisted's own notices of ports and factories say less than ours do.
    for namespace in ("log_legacy", "twisted.web.client"):
        levels.setLogLevelForNamespace(namespace, LogLevel.warn)
    observer: ILogObserver = FilteringLogObserver(FileLogObserver(stream, formatter), [levels])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(_Standard())


class _Standard(logging.Handler):
    """Hands a record of Python's own ``logging`` on."""

    def emit(self, record: logging.LogRecord) -> None:
        level = LogLevel.info
        for least, name in ((logging.WARNING, "warn"), (logging.ERROR, "error")):
            if record.levelno >= least:
                level = LogLevel.levelWithName(name)
        Logger(namespace=record.name).emit(level, "{message}", message=self.format(record))


def fault(log: Logger, failure: Failure) -> NodeFault:
    """The error to tell for a fault of ours: its id stands in ``log`` beside the traceback."""
    fault_id = secrets.token_hex(6)
    log.failure("fault {fault_id}", failure, fault_id=fault_id)
    return NodeFault(f"a fault of the server; its log has it as {fault_id}")


def text_line(event: LogEvent, name: str = "") -> str:
    """``2026-11-21T10:00:00.000Z info  smls_node: message``, then a traceback if there is one.

    With ``name``, each line begins with ``[name]``.
    """
    level = _level(event)
    line = f"{_time(event)} {level:<5} {_namespace(event)}: {_message(event)}"
    traceback = _traceback(event)
    text = f"{line}\n{traceback}\n" if traceback else f"{line}\n"
    return textwrap.indent(text, f"[{name}] ", bool) if name else text


def json_line(event: LogEvent, name: str = "") -> str:
    """One JSON object: time, level, namespace, message, and the event's own plain fields.

    With ``name``, that is its ``process``.
    """
    record: dict[str, object] = {
        "time": _time(event),
        "level": _level(event),
        "namespace": _namespace(event),
        "message": _message(event),
    }
    if name:
        record["process"] = name
    for key, value in event.items():
        if key not in record and not key.startswith("log_") and isinstance(value, _PLAIN):
            record[key] = value
    traceback = _traceback(event)
    if traceback:
        record["traceback"] = traceback
    return json.dumps(record) + "\n"


_PLAIN = (str, int, float, bool, type(None))


def _message(event: LogEvent) -> str:
    """The event's format filled in; by Python's own formatting where that does, which is ten
    times as fast as the logger's, and by the logger's for the forms that only it knows."""
    try:
        return str(event["log_format"]).format_map(event)
    except Exception:
        return formatEvent(event)


def _time(event: LogEvent) -> str:
    seconds, milliseconds = divmod(int(event["log_time"] * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _level(event: LogEvent) -> str:
    return str(event.get("log_level", LogLevel.info).name)


def _namespace(event: LogEvent) -> str:
    return str(event.get("log_namespace") or "-")


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is None:
        return ""
    # Twisted leaves an error's notes out.
    notes = getattr(failure.value, "__notes__", ())
    return "\n".join([failure.getTraceback().rstrip(), *notes]).rstrip()
