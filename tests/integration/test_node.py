# SPDX-License-Identifier: MIT
"""``smls-node`` as a real program: its command line, its log, and what people send it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from tests.integration.fleet import (
    THREE,
    UNMEASURED,
    Fleet,
    ask,
    at_port,
    best,
    classify,
    port_of,
    records,
)
from tests.integration.graphs import write_constant
from tests.node.memory import form
from tests.processes import LOCAL, Running, run, running, until

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

NATIVE = re.compile(r"WARNING: All log messages before absl|[IWEF]\d{4} |To enable the following")
"""What TensorFlow's C++ writes to standard error, past every logger."""


@pytest.fixture
def node(pair: Fleet) -> Iterator[Running]:
    """A node that must be as well after the test as it was before."""
    node = pair.nodes[1]
    before = len(node.log)
    yield node
    assert best(classify(node.url, THREE.read_bytes()).json) == "3"
    events = records(node.log[before:])
    assert [each for each in events if "traceback" in each or each.get("status", 0) >= 500] == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no /proc")
def test_no_library_for_tls_is_in_its_process(pair: Fleet) -> None:
    for program in (pair.registry, *pair.nodes):
        maps = Path(f"/proc/{program.process.pid}/maps").read_text()
        assert "python" in maps
        assert "cryptography" not in maps


# The command line ----------------------------------------------------------------------------


def test_a_taken_port_is_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("smls-node", *at_port(port), *UNMEASURED)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"smls-node: cannot listen on port {port} of 127.0.0.1: ")
    assert "--port 0" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_model_that_cannot_be_served_is_told(tmp_path: Path) -> None:
    graph = write_constant(tmp_path, "good", [1, 2, 3])
    junk, two, absent = tmp_path / "junk.pb", tmp_path / "two.txt", tmp_path / "absent.pb"
    junk.write_bytes(b"\xff" * 1000)
    two.write_text("a\nb\n")
    labels = graph[-1]
    cases: dict[str, tuple[object, ...]] = {
        "junk.pb is no frozen graph": ("--graph", junk, "--labels", labels),
        "two.txt has 2 labels, but": (*graph[:-1], two),
        "absent.pb: there is no such file": ("--graph", absent, "--labels", labels),
        "absent.txt: [Errno 2] No such file": (*graph[:-1], tmp_path / "absent.txt"),
        "got 'roses', wanted one of good": (*graph, "--default-model", "roses"),
        "are both model 'good' version 1": (*graph, *graph),
    }

    def start(arguments: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
        return run("smls-node", *LOCAL, *UNMEASURED, *arguments)

    with ThreadPoolExecutor(2) as pool:
        for told, ended in zip(cases, pool.map(start, cases.values()), strict=True):
            assert (ended.returncode, ended.stdout) == (1, "")
            assert told in ended.stderr
            assert "Traceback" not in ended.stderr


def test_a_node_that_still_loads_ends_at_once(tmp_path: Path) -> None:
    loading = Running("smls-node", *LOCAL, XDG_CACHE_HOME=str(tmp_path))
    with closing(loading):
        until(lambda: "loading" in loading.log)
        begun = time.monotonic()
        status, printed, log = loading.stop()
    assert (status, printed) == (0, "")
    assert "stopped while loading" in log
    # Importing TensorFlow and measuring, which goes on in a thread, takes longer.
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--nothing", "--nothing"),
        ("--port 70000", "--port"),
        ("--labels l.txt", "--labels belongs to a model"),
        ("--registry ftp://x", "--registry"),
        ("--models m --models m", "named twice"),
    ],
)
def test_a_wrong_command_line_is_status_2(line: str, named: str) -> None:
    ended = run("smls-node", *line.split())
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert "smls-node --help" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_and_version() -> None:
    for option, told in (
        ("--help", "    smls-node --registry http://registry:12480\n"),
        ("--version", f"simple-ml-serving {version('simple-ml-serving')}\n"),
    ):
        ended = run("smls-node", option)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert told in ended.stdout


def test_twist_runs_it_too(tmp_path: Path) -> None:
    helped = run("twist", "smls-node", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "--drain-timeout=" in helped.stdout
    with running("twist", "smls-node", *LOCAL, *UNMEASURED) as node:
        assert best(classify(node.url, THREE.read_bytes()).json) == "3"
        # The exit status and where the log goes are twist's own.
        _, log, _ = node.stop()
        assert '"log_format": "stopped"' in log
        assert "Traceback" not in log


@pytest.mark.parametrize("server", ["smls-node", "smls-registry"])
def test_twist_tells_of_a_taken_port_in_a_line(server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("twist", server, "--host", "127.0.0.1", "--no-mdns", "--port", port)
    assert ended.returncode == 1
    assert f"\n{server}: cannot listen on port {port} of 127.0.0.1: " in f"\n{ended.stderr}"
    assert "Traceback" not in ended.stderr + ended.stdout


# Its log -------------------------------------------------------------------------------------


def test_a_json_log_has_an_object_a_line(node: Running) -> None:
    before = len(node.log)
    assert classify(node.url, THREE.read_bytes(), path="classify?top=1").status == 200
    assert ask(f"{node.url}nothing").status == 404
    assert [
        line for line in node.log.splitlines() if line[:1] != "{" and not NATIVE.match(line)
    ] == []
    first, second = [each for each in records(node.log[before:]) if "status" in each]
    assert (first["method"], first["path"], first["status"]) == ("POST", "/classify?top=1", 200)
    assert (second["method"], second["path"], second["status"]) == ("GET", "/nothing", 404)
    for each in (first, second):
        assert each["peer"] == "127.0.0.1"
        assert each["sent"] > 0
        assert 0 < each["milliseconds"] < 60_000
        assert each["level"] == "info"
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"])


# What people send ----------------------------------------------------------------------------


@curl
@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
@pytest.mark.parametrize("chunked", [False, True])
def test_curl_reads_the_refusal_of_a_large_upload(
    node: Running, tmp_path: Path, expect: str, chunked: bool
) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(30_000_000))
    headers = ["-H", expect, *(["-H", "Transfer-Encoding: chunked"] if chunked else [])]
    ended = subprocess.run(
        [
            *("curl", "-sS", "-w", "\n%{http_code} %{size_upload}", *headers),
            *("-F", f"data=@{large}", f"{node.url}classify"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    body, told = ended.stdout.rsplit("\n", 1)
    status, sent = told.split()
    assert (status, '"too_large"' in body) == ("413", True)
    if not chunked:
        # Refused by its head: what was sent meanwhile is a part of it, or nothing.
        assert int(sent) == 0 if "100" in expect else int(sent) < large.stat().st_size


def test_a_decompression_bomb_is_refused_by_its_header(node: Running) -> None:
    bomb = BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG", optimize=True)
    assert len(bomb.getvalue()) < 200_000
    refused = classify(node.url, bomb.getvalue())
    assert (refused.status, refused.code) == (413, "too_large")
    assert "20000x20000" in refused.json["error"]["message"]


def test_garbage_harms_nobody(node: Running) -> None:
    """Noise, heads and bodies that lie or are cut, and clients that stop in the middle."""
    random = Random(2)
    address = ("127.0.0.1", port_of(node.url))
    with ExitStack() as stalled:
        for number in range(200):
            peer = stalled.enter_context(socket.create_connection(address, timeout=60))
            if number % 2:
                peer.sendall(random.choice(WHOLE)(random))
                check_refusal(received(peer))
                peer.close()
                continue
            peer.sendall(random.choice(CUT)(random))
            if number % 3 == 0:
                peer.close()
            elif number % 3 == 1:
                peer.shutdown(socket.SHUT_WR)
            # The others say nothing more, and wait.
        assert best(classify(node.url, THREE.read_bytes()).json) == "3"


def noise(random: Random) -> bytes:
    return random.randbytes(random.randint(1, 5000))


def noise_as_image(random: Random) -> bytes:
    return posted(noise(random), "image/jpeg")


def noise_as_form(random: Random) -> bytes:
    return posted(noise(random), form()[0])


def broken_image(random: Random) -> bytes:
    data = bytearray(THREE.read_bytes())
    # What follows the size: pixels may turn out as they like, but no header grows huge.
    for _ in range(20):
        data[random.randrange(200, len(data))] = random.randrange(256)
    return posted(bytes(data[: random.randint(2, 600)]), "image/jpeg")


def cut_form(random: Random) -> bytes:
    content_type, body = form(THREE.read_bytes(), top="3")
    return posted(body[: random.randint(0, len(body) - 20)], content_type)


def cut_request(random: Random) -> bytes:
    content_type, body = form(THREE.read_bytes())
    whole = posted(body, content_type)
    return whole[: random.randint(1, len(whole) - 1)]


def lying_head(random: Random) -> bytes:
    lines = (
        b"Content-Length: -1",
        b"Content-Length: 12, 13",
        b"Content-Length: many",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Transfer-Encoding: backwards",
        b"Content-Type: multipart/form-data\r\nContent-Length: 3",
        b"Content-Type: multipart/form-data; boundary=\r\nContent-Length: 3",
        b"X: " + b"y" * 40_000,
        b"no colon",
        b"Host: \xff\xfe\r\nContent-Length: 3",
    )
    return (
        b"POST /classify HTTP/1.1\r\nConnection: close\r\n" + random.choice(lines) + b"\r\n\r\nabc"
    )


def cut_chunks(random: Random) -> bytes:
    return chunked(random.choice([b"5\r\nab", b"5\r\nabcde", b"ff", b"1\r\na\r\n"]))


def bad_chunks(random: Random) -> bytes:
    return chunked(random.choice([b"zz\r\nabc", b"-5\r\nabcde\r\n", b"3\r\nabcdef\r\n"]))


def odd_path(random: Random) -> bytes:
    path = random.choice([b"/%ff%fe", b"//", b"/../etc/passwd", b"*", b"/classify/..;/", b"/%00"])
    return b"POST " + path + b" HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"


CUT = (noise, cut_request, cut_chunks)
"""What may be waited on for more."""

WHOLE = (noise_as_image, noise_as_form, broken_image, cut_form, lying_head, bad_chunks, odd_path)
"""What is answered at once."""


def posted(body: bytes, content_type: str) -> bytes:
    head = f"POST /classify HTTP/1.1\r\nConnection: close\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def received(peer: socket.socket) -> bytes:
    """All that comes until the server closes."""
    data = b""
    try:
        while more := peer.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def check_refusal(answer: bytes) -> None:
    """The answer blames the request, as JSON; some broken images can be read all the same."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        assert re.match(rb"HTTP/1\.1 4\d\d ", head)
        assert set(json.loads(body)) == {"error"}


# Several models ------------------------------------------------------------------------------


def test_one_node_serves_several_models(mixed: Fleet) -> None:
    node, image = mixed.nodes[1], THREE.read_bytes()
    shown = ask(node.url).json["models"]
    assert [(each["name"], each["version"], each["labels"]) for each in shown] == [
        ("colours", "4", 3),
        ("shapes", "1", 2),
    ]
    assert best(classify(node.url, image, path="").json) == "shapes-1"
    for fields in ({"model": "colours"}, {"model": "colours", "version": "4", "top": "2"}):
        answer = classify(node.url, image, **fields).json
        assert (best(answer), answer["model"], answer["version"]) == ("colours-0", "colours", "4")
    both = classify(node.url, image, b"no image", path="classify?model=colours").json["results"]
    assert best(both[0]) == "colours-0"
    assert both[1]["error"]["code"] == "not_an_image"
    for query, wanted in (("model=fish", "colours, shapes"), ("model=colours&version=1", "4")):
        refused = classify(node.url, image, path=f"classify?{query}")
        assert (refused.status, refused.code) == (404, "model_not_found")
        assert f"wanted one of {wanted}" in refused.json["error"]["message"]
