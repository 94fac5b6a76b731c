# SPDX-License-Identifier: MIT
"""The container image of a folder of models, as the text of its Dockerfile.

What changes least comes first: a new model is one new layer, and nothing is installed for it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from attrs import frozen

from smls import program
from smls.errors import ModelUnusable
from smls.wire import NAME
from smls_node.formats import FORMATS, candidates

MARK = "# Written by smls-node dockerfile, which writes over it."

BASE = "python:{python}-slim"

GPU = "ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility"
"""By which NVIDIA's container toolkit puts the driver into a container. Its own images say the same
and bring CUDA's libraries, which here come with TensorFlow's wheels.

Source: NVIDIA Container Toolkit, "Specialized Configurations with Docker", environment variables.
"""

USER_ID = 10001
"""A number, by which Kubernetes can see that it is not root's."""

EXTRAS = {
    suffix: kind.extra
    for kind in FORMATS.values()
    for suffix in kind.suffixes
    if kind.extra != "node"
}
"""What a model's file needs besides the node, by its suffix."""

IGNORED = ".git\n**/__pycache__\n**/*.pyc\n.dockerignore\nDockerfile\n"
"""What need not be in an image, for ``.dockerignore``."""

HEALTH = (
    "import urllib.request as r; r.build_opener(r.ProxyHandler({{}}))"
    ".open('http://127.0.0.1:{port}/readyz', timeout=2)"
)
"""Slim images have no curl, and a proxy of the environment knows nothing of the container."""


@frozen
class Packed:
    """What is to be packed. ``model`` is the model's name where the folder holds one alone;
    ``requirements`` and ``wheel`` are paths in the folder."""

    version: str
    python: str
    port: int
    model: str | None = None
    requirements: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    wheel: str | None = None
    is_gpu: bool = False
    base: str | None = None


def found(folder: Path, provided: Collection[str]) -> dict[str, object]:
    """What a look into ``folder`` tells of ``Packed``; ``provided`` are the extras that there are.

    :raises ModelUnusable: where there are no models, or one whose format needs an extra that this
        version does not have.
    """
    if not folder.is_dir():
        raise ModelUnusable(f"{folder}: there is no such folder")
    files = [
        path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    ]
    extras = set()
    for path in files:
        extra = EXTRAS.get(path.suffix)
        if extra and extra not in provided:
            raise ModelUnusable(f"{folder / path}: this version has no runtime for {path.suffix}")
        extras |= {extra} if extra else set()
    if not any(path.name not in ("requirements.txt", "Dockerfile") for path in files):
        raise ModelUnusable(f"{folder}: there is no model in this folder")
    return {
        "model": folder.resolve().name if _is_model(folder, files) else None,
        "requirements": tuple(str(path) for path in files if path.name == "requirements.txt"),
        "extras": tuple(sorted(extras)),
    }


def dockerfile(packed: Packed) -> str:
    """The Dockerfile, for a build whose context is the folder."""
    extras = ",".join(["node", *packed.extras])
    distribution = f"{program.DISTRIBUTION}[{extras}]"
    copied, wanted = "", f"{distribution}=={packed.version}"
    if packed.wheel is not None:
        # pip wants to find the file under its own name.
        path = f"/requirements/{Path(packed.wheel).name}"
        copied, wanted = _copy(packed.wheel, path), f"{distribution} @ file://{path}"
    gpu = ["tensorflow[and-cuda]"] if packed.is_gpu else []
    lines = [
        MARK,
        f"FROM {packed.base or BASE.format(python=packed.python)}",
        "",
        *([GPU] if packed.is_gpu else []),
        "ENV PATH=/opt/smls/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1",
        f"RUN useradd --uid {USER_ID} --create-home smls && python3 -m venv /opt/smls",
        *([copied] if copied else []),
        f"RUN pip install {_quoted([wanted, *gpu])}",
    ]
    if packed.requirements:
        numbered = [
            (path, f"/requirements/{number}.txt")
            for number, path in enumerate(packed.requirements, 1)
        ]
        lines += [_copy(*each) for each in numbered]
        # Named again, it keeps the version that it has.
        listed = " ".join(f"-r {path}" for _, path in numbered)
        lines += [f"RUN pip install {_quoted([wanted])} {listed}"]
    target = "/models/" if packed.model is None else f"/models/{packed.model}/"
    lines += [
        "",
        f"COPY --chown={USER_ID}:{USER_ID} {json.dumps(['.', target])}",
        f"USER {USER_ID}",
        f"EXPOSE {packed.port}",
        "HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \\",
        f"    CMD {json.dumps(['python', '-c', HEALTH.format(port=packed.port)])}",
        f"CMD {json.dumps(['smls-node', '--models', '/models', '--port', str(packed.port)])}",
    ]
    return "\n".join(lines) + "\n"


def _copy(source: str, target: str) -> str:
    return f"COPY {json.dumps([source, target])}"


def _quoted(requirements: list[str]) -> str:
    return " ".join(f"'{each}'" for each in requirements)


def _is_model(folder: Path, files: list[Path]) -> bool:
    """Whether the folder is one model's: it has versions or a graph, or says how to serve them."""
    at_top = [path.name for path in files if len(path.parts) == 1]
    is_model = any(name in ("smls.toml", "model-settings.json") for name in at_top)
    is_model = is_model or bool(candidates(path.as_posix() for path in files))
    is_model = is_model or any(each.is_dir() and each.name.isdigit() for each in folder.iterdir())
    name = folder.resolve().name
    if is_model and not NAME.fullmatch(name):
        raise ModelUnusable(
            f"{folder}: the folder's name is the model's, and {name!r} cannot be one"
        )
    return is_model
