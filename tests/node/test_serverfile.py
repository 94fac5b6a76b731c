# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from pathlib import Path

import pytest
from twisted.python.usage import UsageError

from smls.errors import ModelUnusable
from smls_node.serverfile import KEYS, UNUSED, options
from smls_node.tap import Options

PATH = Path("models/settings.json")


def test_what_it_says_are_options() -> None:
    told = {"host": "127.0.0.1", "http_port": 8080, "parallel_workers": 3, "debug": "true"}
    assert options(json.dumps(told), PATH) == [
        "--host",
        "127.0.0.1",
        "--port",
        "8080",
        "--replicas",
        "3",
    ]
    assert options('{"parallel_workers": 0}', PATH) == ["--replicas", "1"]
    assert options(json.dumps(dict.fromkeys(UNUSED)), PATH) == []
    assert not KEYS.keys() & UNUSED


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"http_prot": 1}', "http_prot: no such key; did you mean http_port?"),
        ('{"zebra": 1}', "zebra: no such key; used are host, http_port, parallel_workers"),
        ('{"http_port": "8080"}', "http_port: got '8080', wanted a port, 0-65535"),
        ('{"http_port": 70000}', "http_port: got 70000, wanted a port"),
        ('{"host": ""}', "host: got '', wanted an address"),
        ('{"parallel_workers": true}', "parallel_workers: got True, wanted a whole number 0-1024"),
        ("[1]", "got list, wanted an object with keys"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(ModelUnusable) as raised:
        options(text, PATH)
    assert str(PATH) in raised.value.message
    assert told in raised.value.message


def parsed(*arguments: object) -> Options:
    read = Options()
    read.parseOptions([str(each) for each in arguments])
    return read


def test_the_command_line_overrides_it_and_the_first_folder_the_others(tmp_path: Path) -> None:
    for name, port in (("one", 1000), ("two", 2000)):
        (tmp_path / name).mkdir()
        text = json.dumps({"http_port": port, "host": name})
        (tmp_path / name / "settings.json").write_text(text)
    one, two = tmp_path / "one", tmp_path / "two"
    assert (parsed(one)["port"], parsed(one)["host"]) == (1000, "one")
    assert parsed("--models", two)["port"] == 2000
    assert parsed(f"--models={two}", one)["port"] == 2000
    assert parsed("--port", 7, one)["port"] == parsed(one, "--port=7")["port"] == 7
    assert parsed(tmp_path)["port"] == 8501
    (one / "settings.json").write_text('{"parallel_workers": 3}')
    assert parsed(one)["replicas"] == 3
    assert parsed(one, "--replicas", 1)["replicas"] == 1
    (two / "settings.json").write_text("{")
    with pytest.raises(UsageError, match=r"settings.json is no JSON file"):
        parsed(two)
