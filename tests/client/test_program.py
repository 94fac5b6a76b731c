# SPDX-License-Identifier: MIT
import resource
import signal
from contextlib import closing

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.python.usage import UsageError

from smls import program
from smls.errors import MissingExtra, PortTaken
from tests.processes import Running, run, running

SERVER = """
import os
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from smls import program
from smls.errors import ModelUnusable

class Options(program.ServerOptions):
    optParameters = [["port", None, 0, "Port.", program.whole_number("port", 0, 65535)]]
    def parseArgs(self, *models):
        self["models"] = models

class Server(Service):
    def startService(self):
        if "broken" in self.options["models"]:
            raise ModelUnusable("the model is broken")
        if "early" in self.options["models"]:
            os.kill(os.getpid(), int(self.options["models"][1]))
        from twisted.internet import reactor
        reactor.callWhenRunning(print, "ready at http://nowhere/\\n", flush=True)
    def stopService(self):
        print("stopping", flush=True)
        return Deferred() if "stuck" in self.options["models"] else None

def make(options):
    server = Server()
    server.options = options
    return server

program.main("server", Options(), make)
"""


class Options(program.ServerOptions):
    optParameters = [["port", "p", 1, "Port.", program.whole_number("port", 0, 65535)]]

    def parseArgs(self, *models):
        self["models"] = models


def parsed(*arguments):
    options = Options()
    options.parseOptions(arguments)
    return options


@pytest.mark.parametrize(
    "arguments",
    [
        ("flowers", "--port", "7", "birds", "--no-mdns"),
        ("--port=7", "--no-mdns", "flowers", "birds"),
        ("flowers", "birds", "-p", "7", "--no-mdns"),
        ("-p7", "--no-mdns", "--", "flowers", "birds"),
    ],
)
def test_options_stand_before_or_after_positionals(arguments):
    options = parsed(*arguments)
    assert (options["port"], options["no-mdns"]) == (7, 1)
    assert options["models"] == ("flowers", "birds")


def test_what_follows_two_dashes_is_no_option():
    assert parsed("--", "--port")["models"] == ("--port",)


@pytest.mark.parametrize(
    "arguments",
    [("--nothing",), ("--port",), ("--port", "-1"), ("--port", "1.5"), ("--log-format", "xml")],
)
def test_a_wrong_command_line_is_told(arguments):
    with pytest.raises(UsageError):
        parsed(*arguments)


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", ""])
def test_seconds_are_above_zero(text):
    with pytest.raises(ValueError, match="--ttl: got"):
        program.seconds("ttl")(text)


def test_seconds_may_have_a_fraction():
    assert program.seconds("ttl")("0.5") == 0.5


@pytest.mark.parametrize("text", ["-1", "x", "nan", "inf", ""])
def test_where_none_are_allowed_seconds_may_be_0_and_no_less(text):
    read = program.seconds("delay", or_none=True)
    assert [read("0"), read("0.5")] == [0, 0.5]
    with pytest.raises(ValueError, match=r"--delay: got .* wanted 0 seconds or more"):
        read(text)


def test_a_missing_extra_is_named():
    program.require_extra("smls-registry", "registry", ["json"])
    with pytest.raises(MissingExtra, match=r"no_such_module.*simple-ml-serving\[registry\]"):
        program.require_extra("smls-registry", "registry", ["json", "no_such_module"])


def test_the_file_limit_goes_up_to_the_hard_limit():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, limits[1]), limits[1]))
    try:
        program.raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limits[1], limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_taken_port_is_a_port_taken():
    first = program.listen(reactor, 0, ServerFactory(), "127.0.0.1")
    with pytest.raises(PortTaken, match=str(first.getHost().port)):
        program.listen(reactor, first.getHost().port, ServerFactory(), "127.0.0.1")
    first.stopListening()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service(number):
    with running(SERVER) as server:
        server.process.send_signal(number)
        status, out, log = server.end()
    assert (status, out) == (0, "stopping\n")
    assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_reactor_runs_stops_the_service_too(number):
    server = Running(SERVER, "early", str(int(number)))
    with closing(server):
        status, out, log = server.end()
    assert (status, out) == (0, "ready at http://nowhere/\n\nstopping\n")
    assert "Traceback" not in log


def test_a_second_signal_ends_a_service_that_is_stuck():
    with running(SERVER, "stuck") as server:
        server.process.terminate()
        assert server.process.stdout.readline() == "stopping\n"
        server.process.terminate()
        assert server.process.wait(60) == 1


def test_an_error_at_the_start_is_a_line_and_status_1():
    ended = run(SERVER, "broken")
    assert ended.returncode == 1
    assert ended.stderr == "server: the model is broken\n"


def test_a_wrong_option_is_status_2():
    ended = run(SERVER, "--port", "x")
    assert ended.returncode == 2
    assert "server --help" in ended.stderr
