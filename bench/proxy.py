# SPDX-License-Identifier: MIT
"""``python -m bench.proxy``: images a second through a proxy, and straight to the nodes.

Four nodes, a proxy and a registry each have a link of 100 Mbit/s, the client one of 1 Gbit/s:
network namespaces on this machine. The images are photos of about 200 kB, for the small network,
so that the links are the limit and nothing else is. They go

- to one node alone, which is what one link carries;
- through nginx, as it is and streaming, and through haproxy;
- to where the registry's redirect sends ``curl``;
- to where smls' own client sends them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import load, models, readiness
from bench.town import NoTown, Town

NODES = 4
LINK, CLIENT_LINK = 100, 1000
"""Megabits a second."""

PORT = 8501
CALLERS = 32

ONE = "one node alone"
"""What all else is compared with."""

SIZES = (150_000, 250_000)

NGINX = """\
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 20m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream nodes {{ {servers} keepalive 64; }}
  server {{
    listen 8080; location / {{ proxy_pass http://nodes; proxy_http_version 1.1;
      proxy_set_header Connection ""; }}
  }}
  server {{
    listen 8081; location / {{ proxy_pass http://nodes; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_request_buffering off; }}
  }}
}}
"""

HAPROXY = """\
global
  maxconn 512
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend all
  bind :8082
  default_backend nodes
backend nodes
  balance roundrobin
{servers}
"""


def main() -> int:
    """Prints a table in Markdown; 2 where a tool or a permission is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WAY",
        help="measure one node, and the ways whose names have this in them; may be repeated",
    )
    parser.add_argument("--classify", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.classify:
        _classify(options.classify[0], Path(options.classify[1]), options.seconds)
        return 0
    missing = [tool for tool in ("nginx", "haproxy", "curl") if shutil.which(tool) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; apt-get install {' '.join(missing)}")
        return 2
    if not readiness.ready():
        return 2
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            ways = _ways(stack.enter_context(Town()), folder, options.seconds)
            if options.only:
                wanted = (ONE, *options.only)
                ways = {name: way for name, way in ways.items() if any(w in name for w in wanted)}
            figures: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, way in ways.items():
                    figures[name].append(way())
                    print(f"{name}: {figures[name][-1]:.1f} images/s", flush=True)
    except NoTown as error:
        print(f"this machine cannot show it: {error}", file=sys.stderr)
        return 2
    print("\n| images of about 200 kB | images/s | of one link |\n| --- | --- | --- |")
    one = figures[ONE]
    for name, each in figures.items():
        ratio = statistics.median(a / b for a, b in zip(each, one, strict=True))
        print(f"| {name} | {statistics.median(each):.1f} | {ratio:.2f} |")
    return 0


def _ways(town: Town, folder: Path, seconds: int) -> dict[str, Callable[[], float]]:
    """Builds the town; how images go, each with what measures it."""
    images = _images(folder)
    client = town.host("client", CLIENT_LINK)
    assert client
    proxy, registry = town.host("proxy", LINK), town.host("registry", LINK)
    nodes = [town.host(f"node{number}", LINK) for number in range(1, NODES + 1)]
    programs = Path(sys.executable).parent
    log = (folder / "log").open("wb")
    at = f"http://{registry}:12480"
    town.start("registry", [programs / "smls-registry", "--no-mdns", "--port", 12480], log)
    for number, address in enumerate(nodes, 1):
        town.start(
            f"node{number}",
            [
                *(programs / "smls-node", "--port", PORT, "--no-mdns", "--registry", at),
                *("--advertise", f"{address}:{PORT}", "--node-name", f"node{number}"),
                *("--operator-threads", 1, "--runs", 1),
            ],
            log,
        )
    _start_proxies(town, folder, nodes, log)
    _wait(town, at)
    body = load.body("form", images[0].read_bytes())[0]
    forms = []
    for image in images:
        form = folder / f"{image.stem}.form"
        form.write_bytes(load.body("form", image.read_bytes())[1])
        forms.append(form)

    def wrk(host: str, port: int) -> Callable[[], float]:
        command = [
            *(load.find_wrk(), "--threads", 1, "--connections", CALLERS),
            *("--duration", f"{seconds}s", "--timeout", "30s", "--script", load.BENCH / "post.lua"),
            *(f"http://{host}:{port}/classify", "--", body, *forms),
        ]
        return lambda: _rate_of_wrk(town.run("client", command, seconds + 60).stdout)

    count = seconds * 50
    config = folder / "curl.txt"
    config.write_text(
        "\nnext\n".join(
            f'url = "{at}/classify"\nform = "data=@{images[index % len(images)]}"\nlocation\n'
            f'header = "Expect: 100-continue"\noutput = "/dev/null"\n'
            'write-out = "%{http_code} %{time_total}\\n"\nmax-time = 60'
            for index in range(count)
        )
    )

    def curl() -> float:
        begun = time.monotonic()
        done = town.run(
            "client",
            ["curl", "--silent", "--parallel", "--parallel-max", CALLERS, "--config", config],
            seconds * 20,
        )
        took = time.monotonic() - begun
        good = sum(line.startswith("200 ") for line in done.stdout.splitlines())
        if good != count:
            raise RuntimeError(f"curl: {good} of {count} were answered")
        return good / took

    ours = [sys.executable, "-m", "bench.proxy", "--classify", at, folder, "--seconds", seconds]
    return {
        ONE: wrk(nodes[0], PORT),
        "nginx, as it is": wrk(proxy, 8080),
        "nginx, streaming": wrk(proxy, 8081),
        "haproxy": wrk(proxy, 8082),
        "the registry's redirect, curl": curl,
        "smls' client": lambda: float(town.run("client", ours, seconds + 60).stdout),
    }


def _images(folder: Path) -> list[Path]:
    """Copies of the photos of about 200 kB."""
    files = models.model("mobilenet_v2").image_files()
    middle = [file for file in files if SIZES[0] <= file.stat().st_size <= SIZES[1]]
    return [Path(shutil.copy(file, folder)) for file in middle]


def _start_proxies(town: Town, folder: Path, nodes: list[str], log: object) -> None:
    for name, text, form, command in (
        ("nginx", NGINX, "server {0}:{1};", ["nginx", "-c", folder / "nginx.conf"]),
        ("haproxy", HAPROXY, "  server n{0} {0}:{1}", ["haproxy", "-f", folder / "haproxy.conf"]),
    ):
        servers = "\n".join(form.format(address, PORT) for address in nodes)
        (folder / f"{name}.conf").write_text(text.format(folder=folder, servers=servers))
        town.start("proxy", command, log)  # type: ignore[arg-type]


def _wait(town: Town, registry: str, longest: float = 120.0) -> None:
    """Until the registry lists all nodes."""
    end = time.monotonic() + longest
    while time.monotonic() < end:
        try:
            text = town.run("client", ["curl", "-s", "-m", 2, f"{registry}/v1/nodes"], 5).stdout
            if len(json.loads(text)["nodes"]) == NODES:
                return
        except (subprocess.SubprocessError, ValueError, KeyError):
            pass
        time.sleep(0.2)
    raise RuntimeError("the nodes did not announce themselves")


def _rate_of_wrk(text: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith("RESULT "))
    told = json.loads(line.removeprefix("RESULT "))
    if told["not_ok"] + told["broken"]:
        raise RuntimeError(f"wrk: {told}")
    return float(told["requests"] / (told["duration"] / 1e6))


def _classify(registry: str, folder: Path, seconds: float) -> None:
    """In the client's host: prints how many images a second smls' client gets classified."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred, gatherResults

    from smls import Client

    images = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
    client = Client(registry, cache=False)
    answered = 0

    async def caller(number: int) -> None:
        nonlocal answered
        while time.monotonic() < end:
            await client.classify(images[(number + answered) % len(images)])
            answered += 1

    async def all_of_them() -> None:
        await gatherResults([Deferred.fromCoroutine(caller(each)) for each in range(CALLERS)])
        print(answered / (time.monotonic() - begun), flush=True)
        await client.close()

    begun = time.monotonic()
    end = begun + seconds
    done = Deferred.fromCoroutine(all_of_them())
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.stop())  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
