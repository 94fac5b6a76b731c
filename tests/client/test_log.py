# SPDX-License-Identifier: MIT
import json
import subprocess
import sys
from functools import partial
from io import StringIO

import pytest
from twisted.logger import FileLogObserver, Logger

from smls.log import json_line, text_line


def logged(formatter, tell):
    stream = StringIO()
    tell(Logger(namespace="smls.test", observer=FileLogObserver(stream, formatter)))
    return stream.getvalue()


def fail(log):
    try:
        error = RuntimeError("broken")
        error.add_note("so said another process")
        raise error
    except RuntimeError:
        log.failure("it {what}", what="failed")


def test_a_text_line_has_time_level_namespace_and_message():
    line = logged(text_line, lambda log: log.info("{count} nodes", count=3))
    time, level, namespace, message = line.split(None, 3)
    assert time.endswith("Z")
    assert (level, namespace, message) == ("info", "smls.test:", "3 nodes\n")


def test_a_json_line_has_the_fields():
    line = logged(json_line, lambda log: log.warn("{count} nodes", count=3, thing=object()))
    record = json.loads(line)
    assert line.count("\n") == 1
    assert record.pop("time").endswith("Z")
    assert record == {"level": "warn", "namespace": "smls.test", "message": "3 nodes", "count": 3}


def test_the_name_of_one_of_several_processes_stands_in_each_line():
    lines = logged(partial(text_line, name="replica 1"), fail).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("[replica 1] ") for line in lines)
    line = logged(partial(json_line, name="replica 1"), lambda log: log.info("ready"))
    assert json.loads(line)["process"] == "replica 1"


@pytest.mark.parametrize("formatter", [text_line, json_line])
def test_a_failure_brings_its_traceback(formatter):
    line = logged(formatter, fail)
    assert "it failed" in line
    assert "Traceback" in line
    assert "RuntimeError: broken" in line
    assert "so said another process" in line


def test_importing_configures_no_logging():
    check = (
        "import smls.log, smls.web, smls.program, smls.wire, sys\n"
        "from twisted.logger import globalLogBeginner\n"
        "assert globalLogBeginner._temporaryObserver is not None\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_what_twisted_says_of_its_connections_is_left_out():
    # The log is begun once in a process.
    tell = (
        "import sys\n"
        "from twisted.logger import Logger\n"
        "from twisted.web.client import _HTTP11ClientFactory\n"
        "from smls import log\n"
        "log.begin(sys.stdout)\n"
        "connections = _HTTP11ClientFactory(None, None)\n"
        "connections.doStart()\n"
        "connections.doStop()\n"
        "Logger(namespace='twisted.web.client').warn('this is kept')\n"
        "Logger(namespace='smls.test').info('this too')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", tell], check=True, capture_output=True, text=True, timeout=60
    )
    lines = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
    assert lines == ["this is kept", "this too"]
