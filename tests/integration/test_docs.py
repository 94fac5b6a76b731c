# SPDX-License-Identifier: MIT
"""What the documentation says of options, errors and files is so.

``test_readme.py`` runs the README, ``tests/client/test_docs.py`` the programs of docs/client.md,
``tests/registry/test_service.py`` the calls of docs/registry.md.
"""

from __future__ import annotations

import re
import shlex

import pytest
from twisted.python import usage

from smls.web import STATUS
from smls_node import tap as node_tap
from smls_node.commands import accelerate, build
from smls_registry import tap as registry_tap
from tests.processes import ROOT


def page(name: str) -> str:
    return (ROOT / name).read_text()


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    links = re.findall(r"\]\((?!http)([^)#]+)", page(name))
    assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("docs/node.md", [node_tap.Options(), accelerate.Options(), build.Options()]),
        ("docs/registry.md", [registry_tap.Options()]),
    ],
)
def test_the_options_that_are_documented_exist(name: str, options: list[usage.Options]) -> None:
    known = "".join(each.getUsage() for each in options)
    named = set(re.findall(r"`(?:smls-[a-z]+ )?(--[a-z][a-z-]+)", page(name)))
    assert named
    assert [each for each in sorted(named) if each not in known and each != "--version"] == []


@pytest.mark.parametrize(
    "line",
    re.findall(
        r"^smls-node(?! accelerate| build| dockerfile).*", page("docs/node.md"), re.MULTILINE
    ),
)
def test_the_nodes_command_lines_are_understood(line: str) -> None:
    options = node_tap.Options()
    options.parseOptions(shlex.split(line, comments=True)[1:])
    assert len(options["models"]) == line.count("--graph")


@pytest.mark.parametrize("name", ["docs/node.md", "docs/registry.md"])
def test_the_errors_that_are_documented_have_their_status(name: str) -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \|", page(name), re.MULTILINE)
    assert len(rows) >= 7
    for status, codes in rows:
        for code in re.findall(r"`(\w+)`", codes):
            assert STATUS[code] == int(status)
