# SPDX-License-Identifier: MIT
"""A registry, two nodes and a client on this machine, on free ports of the loopback address.

``script/demo`` runs this in an environment of its own. With ``--once`` it ends by itself.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import urlopen

BIN = Path(sys.executable).parent
IMAGES = [str(path) for path in sorted(Path("examples/digits").iterdir())]
LOCAL = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")


def start(running: ExitStack, name: str, *options: str) -> subprocess.Popen[str]:
    """One of smls's servers, stopped when ``running`` is left.

    A session of its own keeps the terminal's Ctrl-C from it: it is stopped here, and in order.
    """
    process = subprocess.Popen(
        [BIN / name, *LOCAL, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    running.callback(process.communicate)
    running.callback(process.terminate)
    return process


def url_of(process: subprocess.Popen[str]) -> str:
    """The server's URL, once it says that it is ready."""
    assert process.stdout is not None
    for line in process.stdout:
        ready = re.search(r"ready at (http://[^/\s]+)", line)
        if ready:
            print(f"  {line.rstrip()}", flush=True)
            return ready[1]
    sys.exit(f"a server ended with status {process.wait()} before it was ready")


def wait_for_nodes(registry: str, count: int) -> None:
    """Waits until the registry lists ``count`` nodes, for ten seconds at most."""
    for _ in range(200):
        with urlopen(f"{registry}/v1/nodes") as answer:
            if len(json.load(answer)["nodes"]) >= count:
                return
        time.sleep(0.05)
    sys.exit(f"the registry does not list {count} nodes after ten seconds")


def show(*command: str) -> None:
    """Prints a command as one would type it, and runs it."""
    print(f"\n$ {' '.join(command)}", flush=True)
    own = BIN / command[0]
    subprocess.run([str(own) if own.exists() else command[0], *command[1:]], check=True)


def main() -> None:
    """Shows the whole path once, then waits for Ctrl-C unless ``--once`` is given."""
    once = "--once" in sys.argv[1:]
    with ExitStack() as running:
        print("Starting a registry and two nodes:", flush=True)
        registry = url_of(start(running, "smls-registry"))
        nodes = [start(running, "smls-node", "--registry", registry) for _ in range(2)]
        for node in nodes:
            url_of(node)
        wait_for_nodes(registry, len(nodes))
        show("smls-client", "--registry", registry, "classify", *IMAGES)
        show("smls-client", "--registry", registry, "nodes")
        show("curl", "-s", f"{registry}/v1/nodes")
        print("\nNow you; the registry sends the image straight to a node:\n")
        print(f"  curl -L -H 'Expect: 100-continue' -F data=@{IMAGES[0]} {registry}/classify")
        if not once:
            with suppress(KeyboardInterrupt):
                print("\nCtrl-C ends the demo.", flush=True)
                signal.pause()
        print("\nStopping.", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
