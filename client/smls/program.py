# SPDX-License-Identifier: MIT
"""What the two server programs share on the command line: options, start, signals, exit status."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from getopt import GetoptError, gnu_getopt
from importlib.metadata import version
from importlib.util import find_spec
from types import FrameType
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTCP
from twisted.internet.protocol import ServerFactory
from twisted.python import usage

from smls import log, tls
from smls.errors import MissingExtra, PortTaken, SmlsError

DISTRIBUTION = "simple-ml-serving"

BACKLOG = 2048
"""Connections that may wait to be accepted: bursts of clients find no refusal."""


class CommandOptions(usage.Options):
    """Options that may stand after positional arguments, unlike plain ``usage.Options``.

    ``examples`` follow the help as they are: Twisted would flow them into one paragraph.
    """

    longdesc = ""
    examples = ""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def postOptions(self) -> None:
        """Checks what belongs together, once all options are read."""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        arguments = list(sys.argv[1:] if options is None else options)
        try:
            named, rest = gnu_getopt(arguments, self.shortOpt, [*self.longOpt])
        except GetoptError as error:
            raise usage.UsageError(str(error)) from error
        reordered: list[str] = []
        for name, value in named:
            is_long = name.startswith("--")
            takes_value = (
                f"{name[2:]}=" in self.longOpt if is_long else f"{name[1]}:" in self.shortOpt
            )
            reordered += [name, value] if takes_value else [name]
        super().parseOptions([*reordered, "--", *rest])  # type: ignore[no-untyped-call]

    def getUsage(self, width: int | None = None) -> str:
        return super().getUsage(width) + (self.examples and f"\n{self.examples}")

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        sys.exit(0)


class ServerOptions(CommandOptions):
    """Options that node and registry have in common."""

    optParameters: list[Any] = [
        ["host", None, None, "Address of this machine to listen on; all of them where left out."],
        ["log-format", None, "text", "Log lines for people (text) or for programs (json)."],
    ]
    optFlags = [
        ["no-mdns", None, "Do not use multicast DNS to publish or to find a registry."],
    ]

    @property
    def speaks_tls(self) -> bool:
        """Whether the program speaks TLS with anybody."""
        return False

    def postOptions(self) -> None:
        self["host"] = self["host"] or ""
        if self["log-format"] not in log.FORMATS:
            raise usage.UsageError(
                f"--log-format: got {self['log-format']!r}, wanted one of {', '.join(log.FORMATS)}"
            )


def whole_number(name: str, least: int, most: int) -> Callable[[str], int]:
    """A reader for the option ``--name`` that takes whole numbers from ``least`` to ``most``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"--{name}: got {text!r}, wanted a whole number {least}-{most}")
        return number

    read.coerceDoc = f"A whole number {least}-{most}"  # type: ignore[attr-defined]
    return read


def seconds(name: str, *, or_none: bool = False) -> Callable[[str], float]:
    """A reader for the option ``--name`` that takes seconds above 0, and 0 with ``or_none``."""
    wanted = "0 seconds or more" if or_none else "seconds above 0"

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf") or (number == 0 and not or_none):
            raise ValueError(f"--{name}: got {text!r}, wanted {wanted}")
        return number

    read.coerceDoc = wanted.capitalize()  # type: ignore[attr-defined]
    return read


def require_extra(command: str, extra: str, modules: Iterable[str]) -> None:
    """Checks that the extra of the distribution which ``command`` needs is installed.

    :raises MissingExtra: naming the extra and what of it was not found.
    """
    missing = [name for name in modules if not _is_installed(name)]
    if missing:
        raise MissingExtra(
            f"{command} needs the extra '{extra}' (not found: {', '.join(missing)}); "
            f"install it: pip install '{DISTRIBUTION}[{extra}]'"
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        # The package that the module would be in.
        return False


def raise_file_limit() -> None:
    """Raises the soft limit of open files to the hard limit: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen(
    reactor: IReactorTCP, port: int, factory: ServerFactory[Any], host: str
) -> IListeningPort:
    """Listens on ``port`` of ``host``, all addresses where it is empty.

    :raises PortTaken: where the system does not give the port.
    """
    try:
        return reactor.listenTCP(port, factory, backlog=BACKLOG, interface=host)
    except CannotListenError as error:
        raise PortTaken(
            f"cannot listen on port {port} of {host or 'all addresses'}: "
            f"{error.socketError}; choose another with --port, or a free one with --port 0"
        ) from error


def main(
    command: str,
    options: ServerOptions,
    make_service: Callable[[Any], IService],
    arguments: Sequence[str] | None = None,
    *,
    name: str = "",
) -> None:
    """Runs a server program until SIGTERM, SIGINT or a fault; exits 0, 1 or, for usage, 2.

    The service's ``startService`` may raise a ``SmlsError``, which ends the program with its
    message; an ``exit_status`` that it has at the end is the program's. A second signal while
    the service is stopping ends the program at once. ``name`` stands in front of each log line.
    """
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        sys.exit(_complain(command, f"{error}\nTry '{command} --help'.", 2))
    except MissingExtra as error:
        sys.exit(_complain(command, error.message, 2))
    log.begin(sys.stderr, options["log-format"], name)
    raise_file_limit()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a model prints is to be seen when it prints it.
        sys.stdout.reconfigure(line_buffering=True)
    with _ending(command):
        with nullcontext() if options.speaks_tls else tls.left_out():
            service = make_service(options)
            from twisted.internet import reactor
        _stop_with(reactor, service)
        service.startService()
    reactor.run()
    sys.exit(getattr(service, "exit_status", 0))


def under_twist(command: str, make_service: Callable[[Any], IService]) -> Callable[[Any], IService]:
    """The ``makeService`` of a plugin for ``twist``, which would show a traceback of what ``main``
    tells in a line."""

    def make(options: Any) -> IService:
        with _ending(command):
            return _UnderTwist(command, make_service(options))

    return make


class _UnderTwist(MultiService):
    def __init__(self, command: str, service: IService) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._command = command
        service.setServiceParent(self)

    def startService(self) -> None:
        with _ending(self._command):
            super().startService()  # type: ignore[no-untyped-call]


def run_command(
    command: str,
    options: CommandOptions,
    run: Callable[[Any], None],
    arguments: Sequence[str],
) -> None:
    """Runs a verb that ends by itself; exits 1 with the message of what it raises, 2 for usage."""
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        sys.exit(_complain(command, f"{error}\nTry '{command} --help'.", 2))
    try:
        run(options)
    except (SmlsError, OSError) as error:
        sys.exit(_complain(command, str(error), 1))


def _stop_with(reactor: Any, service: IService) -> None:
    """Stops in order at the first signal and ends at the second.

    Not left to the reactor, which takes signals only once it runs: a service that has said that
    it listens would be killed by one that comes before.
    """

    def stopping() -> Any:
        _at_signals(lambda *_: os._exit(1))
        return service.stopService()

    _at_signals(lambda *_: reactor.callFromThread(reactor.stop))
    reactor.addSystemEventTrigger("before", "shutdown", stopping)


def _at_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


@contextmanager
def _ending(command: str) -> Iterator[None]:
    """Ends the program with the message of what cannot be started."""
    try:
        yield
    except MissingExtra as error:
        sys.exit(_complain(command, error.message, 2))
    except SmlsError as error:
        sys.exit(_complain(command, error.message, 1))


def _complain(command: str, message: str, status: int) -> int:
    print(f"{command}: {message}", file=sys.stderr)
    return status
