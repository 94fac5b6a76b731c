# SPDX-License-Identifier: MIT
"""``smls-client`` as a process, against a fake fleet."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from smls.places import NAMES
from smls.routing import POLICIES
from smls.testing import FakeFleet, hang
from tests.client.fleet import FLOWERS

PROGRAM = [sys.executable, "-c", "from smls.cli import main; main()"]


@pytest.fixture(scope="module")
def fleet() -> Iterator[FakeFleet]:
    with FakeFleet(FLOWERS, nodes=("box-1", "box-2")) as fleet:
        yield fleet


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png"):
        (tmp_path / name).write_bytes(b"image " + name.encode())
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def smls(*arguments: object, text: str = "", **environment: str) -> Any:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SMLS_REGISTRY": "", **environment},
    )


def test_a_table_shows_which_node_answered(fleet: FakeFleet, photos: Path) -> None:
    node = fleet.nodes[0]
    done = smls("--node", node.address, "classify", photos / "a.png", "--top", 2)
    assert (done.returncode, done.stderr) == (0, "")
    header, first, second = done.stdout.splitlines()
    assert header.split() == ["IMAGE", "LABEL", "SCORE", "NODE", "ADDRESS"]
    assert first.split() == [str(photos / "a.png"), "daisy", "0.5000", "box-1", node.address]
    assert second.split() == ["rose", "0.2500"]


def test_json_is_one_object_a_line_in_order(fleet: FakeFleet, photos: Path) -> None:
    names = [str(photos / name) for name in ("b.jpg", "a.png")] * 20
    done = smls("--registry", fleet.url, "classify", "--json", *names)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [line["image"] for line in lines] == names
    assert {line["node"] for line in lines} == {"box-1", "box-2"}
    assert lines[0]["predictions"][0] == {"label": "daisy", "score": 0.5}
    assert list(lines[0]) == ["image", "model", "version", "node", "address", "predictions"]


def test_csv_has_a_row_a_label(fleet: FakeFleet, photos: Path) -> None:
    done = smls("classify", "--csv", photos, "--registry", fleet.url)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.returncode == 0
    assert [row["image"] for row in rows] == [str(photos / "a.png")] * 3 + [
        str(photos / "b.jpg")
    ] * 3
    assert rows[1]["label"] == "rose"
    assert float(rows[1]["score"]) == 0.25


def test_names_come_from_standard_input(fleet: FakeFleet, photos: Path) -> None:
    text = f"{photos}/b.jpg\n{photos}/a.png\n"
    done = smls("classify", "--json", "-", text=text, SMLS_REGISTRY=fleet.url)
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == text.split()


def test_a_bad_file_does_not_stop_the_others(fleet: FakeFleet, photos: Path) -> None:
    (photos / "empty").mkdir()
    names = [photos / name for name in ("none.jpg", "notes.txt", "empty", "a.png")]
    done = smls("--registry", fleet.url, "classify", "--json", *names)
    assert done.returncode == 1
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == [str(names[3])]
    missing, text, empty = done.stderr.splitlines()
    assert missing == f"smls-client: {names[0]}: No such file or directory"
    assert text == f"smls-client: {names[1]}: this is no image"
    assert empty.startswith(f"smls-client: {names[2]}: a directory without images")


def test_the_registry_may_be_named_anywhere(fleet: FakeFleet, photos: Path) -> None:
    url, image = fleet.url, photos / "a.png"
    gone = "http://127.0.0.1:1"
    for arguments in (
        ("--registry", url, "classify", image),
        ("classify", "--registry", url, image),
        ("classify", image, "--registry", url),
        ("--registry", gone, "classify", image, "--registry", url),
        ("--timeout", "20", "--registry", url, "classify", "--timeout", "10", image),
    ):
        assert smls(*arguments).returncode == 0
    for named in (url, f"{gone},{url}", f" {gone}  {url} "):
        assert smls("classify", image, SMLS_REGISTRY=named).returncode == 0


def test_no_registry_is_wrong_usage(photos: Path) -> None:
    for options in (["--no-mdns"], []):
        done = smls(*options, "nodes")
        assert done.returncode == 2
        assert "no registry is named" in done.stderr
        assert "--registry http://HOST:PORT" in done.stderr
        assert "SMLS_REGISTRY" in done.stderr


def test_multicast_dns_is_asked_where_none_is_named(
    fleet: FakeFleet, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, types; module = types.ModuleType('smls.mdns'); "
        f"module.find = lambda seconds: [{fleet.url!r}]; "
        "sys.modules['smls.mdns'] = module; from smls.cli import main; main()"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "SMLS_REGISTRY": ""}
    done = subprocess.run([*command, "nodes"], env=environment, timeout=60, check=False)
    assert done.returncode == 0
    done = subprocess.run(
        [*command, "--no-mdns", "nodes"], env=environment, timeout=60, check=False
    )
    assert done.returncode == 2


def test_wrong_usage(fleet: FakeFleet) -> None:
    for arguments, message in (
        (["classify"], "Missing argument"),
        (["classify", "--json", "--csv", "a.jpg"], "one of --json and --csv"),
        (["classify", "--top", "0", "a.jpg"], "--top"),
        (["--registry", "https://registry", "nodes"], "https is not spoken yet"),
        (["--registry", "ftp://registry", "nodes"], "wanted http://HOST:PORT"),
        (["--node", "a", "nodes"], "wanted HOST:PORT"),
        (["--timeout", "0", "nodes"], "--timeout"),
        (["--node", "a:1", "--registry", "http://a", "nodes"], "not both"),
        (["unknown"], "No such command"),
    ):
        done = smls(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_failures(photos: Path) -> None:
    done = smls("--registry", "http://127.0.0.1:1", "nodes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "smls-client: no registry answered: http://127.0.0.1:1: refused the connection\n"
    )
    done = smls("--node", "127.0.0.1:1", "classify", photos / "a.png")
    assert (done.returncode, done.stdout) == (1, "")
    assert "127.0.0.1:1: refused the connection" in done.stderr


def test_nodes(fleet: FakeFleet) -> None:
    done = smls("nodes", "--registry", fleet.url)
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["NAME", "ADDRESS", "MODELS"]
    assert [row.split() for row in rows] == [
        [node.name, node.address, "flowers:1"]
        for node in sorted(fleet.nodes, key=lambda node: node.address)
    ]
    done = smls("nodes", "--json", "--registry", fleet.url)
    names = {json.loads(line)["name"] for line in done.stdout.splitlines()}
    assert names == {"box-1", "box-2"}
    done = smls("nodes", "--model", "fish", "--registry", fleet.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no live nodes\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = smls("completion", shell)
    assert done.returncode == 0
    assert "_SMLS_CLIENT_COMPLETE" in done.stdout
    done = smls(_SMLS_CLIENT_COMPLETE="bash_complete", COMP_WORDS="smls-client cl", COMP_CWORD="1")
    assert "classify" in done.stdout


def test_help_teaches_and_imports_little() -> None:
    code = (
        "import sys\nfrom smls.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'twisted', 'treq', 'rich', 'zeroconf'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["classify", "--help"], ["completion", "bash"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
        assert done.stdout.endswith("[]\n")
        assert "--help" not in arguments or "smls-client classify" in done.stdout


def test_version() -> None:
    assert smls("--version").stdout == f"simple-ml-serving {version('simple-ml-serving')}\n"


def test_an_interrupt_ends_it_cleanly(fleet: FakeFleet, photos: Path) -> None:
    node = fleet.nodes[0]
    node.behaviour = hang
    asked = node.next_request()
    process = subprocess.Popen(
        [*PROGRAM, "--node", node.address, "classify", photos / "a.png"],
        stderr=subprocess.PIPE,
        text=True,
    )
    fleet.call(lambda: asked)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    node.behaviour = node.answer
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_an_interrupt_while_waiting_for_names(fleet: FakeFleet, photos: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "--node", fleet.nodes[0].address, "classify", "--json", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{photos}/a.png\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["node"] == "box-1"
    process.send_signal(signal.SIGINT)
    status = process.wait(timeout=60)
    errors = process.stderr.read() if process.stderr else ""
    process.communicate()
    assert (status, errors.strip()) == (130, "")


def test_a_reader_that_goes_away_is_no_traceback(fleet: FakeFleet, photos: Path) -> None:
    source, sink = os.pipe()
    os.close(source)
    done = subprocess.run(
        [*PROGRAM, "--registry", fleet.url, "classify", "--json", photos],
        stdout=sink,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(sink)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_disk_is_told(fleet: FakeFleet, photos: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "--registry", fleet.registry.url, "classify", "--json", photos],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    told = "smls-client: standard output: No space left on device"
    assert (done.returncode, done.stderr.strip()) == (1, told)


def on_a_terminal(*arguments: object) -> str:
    """What a terminal of 80 columns gets to see."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(COLUMNS="80", TERM="xterm", SMLS_REGISTRY="")
        os.execv(PROGRAM[0], [*PROGRAM, *map(str, arguments)])
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_many_images_on_a_terminal_show_progress_and_then_the_table(
    fleet: FakeFleet, photos: Path
) -> None:
    shown = on_a_terminal("--registry", fleet.url, "classify", photos)
    assert "classifying" in shown
    table = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"IMAGE +LABEL +SCORE +NODE +ADDRESS", table)
    assert "classifying" not in on_a_terminal("--registry", fleet.url, "classify", "--json", photos)
    assert "classifying" not in on_a_terminal("--registry", fleet.url, "classify", photos / "a.png")


def test_policies_are_named_as_the_library_names_them() -> None:
    assert list(POLICIES) == list(NAMES)


def test_a_policy_a_version_and_a_key_can_be_chosen(fleet: FakeFleet, photos: Path) -> None:
    for options in (
        ["--balancer", "round-robin", "classify", "--model-version", "1"],
        ["classify", "--hedge", "--key", "camera 7"],
    ):
        done = smls("--registry", fleet.url, *options, "--json", photos)
        assert (done.returncode, done.stderr) == (0, "")
    nodes = {json.loads(line)["node"] for line in done.stdout.splitlines()}
    assert len(nodes) == 1
    for wrong, told in (
        (["--balancer", "fair", "nodes"], "expected-completion"),
        (["--balancer", "weighted", "--hedge", "nodes"], "foresees no answers"),
    ):
        done = smls("--registry", fleet.url, *wrong)
        assert done.returncode == 2
        assert told in done.stderr
    done = smls("--registry", fleet.url, "classify", "--model-version", "9", photos)
    assert done.returncode == 1
    assert "version '9'" in done.stderr
