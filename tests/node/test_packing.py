# SPDX-License-Identifier: MIT
"""What a folder of models becomes as a container image, and who builds it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from smls_node import packing
from smls_node.commands import build, dockerfile
from tests.processes import run
from tests.sockets import target

VERSION = version("simple-ml-serving")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder of two models, one of which has requirements."""
    for path in ("models/flowers/3/model.pb", "models/sea birds/1/model.pb"):
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"graph")
    (tmp_path / "models/sea birds/requirements.txt").write_text("pandas\n")
    return tmp_path / "models"


def written(folder: Path, *options: str) -> dict[str, list[str]]:
    """The instructions of the Dockerfile for ``folder``, by their names."""
    parsed = dockerfile.Options()
    parsed.parseOptions([str(folder), *options])
    found: dict[str, list[str]] = {}
    for line in dockerfile.text_for(parsed).replace("\\\n", "").splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest.strip())
    return found


def test_a_folder_of_models_is_served_by_a_user_who_is_not_root(models: Path) -> None:
    lines = written(models)
    assert lines["FROM"] == [f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"]
    *_, released, required = lines["RUN"]
    wanted = f"simple-ml-serving[node]=={VERSION}"
    assert shlex.split(released) == ["pip", "install", wanted]
    assert shlex.split(required) == ["pip", "install", wanted, "-r", "/requirements/1.txt"]
    copied = [json.loads(each) for each in lines["COPY"][:1]]
    assert copied == [["sea birds/requirements.txt", "/requirements/1.txt"]]
    owner, _, what = lines["COPY"][-1].partition(" ")
    assert (owner, json.loads(what)) == ("--chown=10001:10001", [".", "/models/"])
    assert lines["USER"] == ["10001"]
    assert lines["EXPOSE"] == ["8501"]
    assert json.loads(lines["CMD"][0]) == ["smls-node", "--models", "/models", "--port", "8501"]


def test_one_model_is_served_under_the_name_of_its_folder(models: Path) -> None:
    lines = written(models / "flowers", "--port", "9000")
    assert lines["COPY"][-1].endswith('[".", "/models/flowers/"]')
    assert json.loads(lines["CMD"][0])[-1] == "9000"
    with pytest.raises(packing.ModelUnusable, match="'sea birds' cannot be one"):
        written(models / "sea birds")


def test_what_formats_need_is_installed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(models, "--extras", "openvino", "--gpu")
    assert lines["FROM"] == written(models)["FROM"]
    assert f"ENV {lines['ENV'][0]}" == packing.GPU
    install = shlex.split(lines["RUN"][1])
    assert install[2:] == [f"simple-ml-serving[node,openvino]=={VERSION}", "tensorflow[and-cuda]"]
    assert written(models, "--gpu", "--base", "own:1")["FROM"] == ["own:1"]
    (models / "flowers" / "3" / "model.onnx").write_bytes(b"")
    assert packing.found(models, ["onnx"])["extras"] == ("onnx",)
    with pytest.raises(packing.ModelUnusable, match=r"model.onnx: this version has no runtime"):
        packing.found(models, [])


def test_a_wheel_in_the_folder_is_installed_instead(models: Path) -> None:
    (models / "simple_ml_serving-1-py3-none-any.whl").write_bytes(b"")
    lines = written(models, "--wheel", str(models / "simple_ml_serving-1-py3-none-any.whl"))
    place = "/requirements/simple_ml_serving-1-py3-none-any.whl"
    assert json.loads(lines["COPY"][0]) == ["simple_ml_serving-1-py3-none-any.whl", place]
    assert shlex.split(lines["RUN"][1])[-1] == f"simple-ml-serving[node] @ file://{place}"
    with pytest.raises(packing.ModelUnusable, match="--wheel: got /etc/hostname"):
        written(models, "--wheel", "/etc/hostname")


@pytest.mark.parametrize("is_ready", [True, False])
def test_the_health_check_asks_the_node_and_no_proxy(models: Path, is_ready: bool) -> None:
    (line,) = written(models)["HEALTHCHECK"]
    command = json.loads(line.partition("CMD ")[2])
    with target() as server:
        server.RequestHandlerClass.do_GET = answering(200 if is_ready else 503)  # type: ignore[attr-defined]
        command[-1] = command[-1].replace("127.0.0.1:8501", server.address)
        told = subprocess.run(
            [sys.executable, *command[1:]],
            env={**os.environ, "http_proxy": "http://127.0.0.1:9"},
            capture_output=True,
            check=False,
        )
    assert (told.returncode == 0) == is_ready, told.stderr


def answering(status: int) -> Callable[..., None]:
    def do_get(self: object) -> None:
        self.send_response(status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")  # type: ignore[attr-defined]
        self.end_headers()  # type: ignore[attr-defined]

    return do_get


def test_the_verb_writes_over_its_own_file_alone(models: Path) -> None:
    for _ in range(2):
        ended = run("smls-node", "dockerfile", models)
        assert (ended.returncode, ended.stderr) == (0, "")
    assert (models / "Dockerfile").read_text() == run(
        "smls-node", "dockerfile", "--output", "-", models
    ).stdout
    assert "Dockerfile" in (models / ".dockerignore").read_text()
    (models / "Dockerfile").write_text("FROM scratch\n")
    ended = run("smls-node", "dockerfile", models)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "was written by somebody else" in ended.stderr


def test_the_engine_that_there_is_gets_the_file_and_the_folder(
    models: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    ended = run("smls-node", "build", models, "-t", "flowers", PATH=str(programs))
    assert ended.returncode == 1
    assert ended.stderr.startswith("smls-node build: there is no docker and no podman on PATH;")
    engine = programs / "podman"
    script = "import sys; print(sys.argv[1:]); print(sys.stdin.read()); sys.exit(len(sys.argv) - 9)"
    engine.write_text(f"#!{sys.executable}\n{script}\n")
    engine.chmod(0o755)
    ended = run("smls-node", "build", models, "-t", "flowers:2", PATH=str(programs))
    assert ended.returncode == 0, ended.stderr
    told = ["build", "--format", "docker", "-t", "flowers:2", "-f", "-", str(models)]
    assert str(told) in ended.stdout
    assert packing.MARK in ended.stdout
    assert "built: flowers:2; try: podman run -p 8501:8501 flowers:2" in ended.stdout
    (models / "Dockerfile").write_text("FROM scratch\n")
    ended = run("smls-node", "build", models, "-t", "flowers", PATH=str(programs))
    assert f"'-f', '{models / 'Dockerfile'}'" in ended.stdout
    assert packing.MARK not in ended.stdout
    engine.write_text("#!/bin/sh\nexit 3\n")
    ended = run("smls-node", "build", models, "-t", "flowers", PATH=str(programs))
    assert ended.returncode == 1
    assert ended.stderr.endswith("status 3; what it said is above\n")
    shutil.copy(engine, programs / "docker")
    ended = run("smls-node", "build", models, "-t", "flowers", PATH=str(programs))
    assert re.search("docker build ended .*there is podman too: --engine podman", ended.stderr)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("build DIR", "--tag is missing"),
        ("build DIR -t a --engine make", "--engine: got 'make', wanted docker or podman"),
        ("dockerfile", "got 0 folders, wanted one"),
        ("dockerfile DIR --port 0", "--port: got '0'"),
    ],
)
def test_bad_usage_is_told(
    line: str, told: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *arguments = line.replace("DIR", str(models)).split()
    with pytest.raises(SystemExit) as exit_:
        {"build": build, "dockerfile": dockerfile}[verb].main(arguments)
    assert exit_.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["/nowhere"], "/nowhere: there is no such folder"),
        (["EMPTY"], "there is no model in this folder"),
        (["DIR", "--extras", "tea"], "--extras: got tea, wanted some of"),
    ],
)
def test_what_cannot_be_packed_is_told(
    arguments: list[str],
    told: str,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"DIR": str(models), "EMPTY": str(tmp_path / "empty")}
    with pytest.raises(SystemExit) as exit_:
        dockerfile.main([names.get(each, each) for each in arguments])
    assert exit_.value.code == 1
    assert told in capsys.readouterr().err
