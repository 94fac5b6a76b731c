# SPDX-License-Identifier: MIT
"""Models in folders: what lies there, and which editions of which models are wanted of it.

Looking is done in a thread; what follows from it is pure. The laws:

- A folder counts as it is once two looks in a row have found the same names, sizes and times in
  it: no file is read while it is copied. Until then it counts as it was before; also a folder
  that is gone is gone when it was missed twice.
- A folder that cannot be read, or a root that cannot, counts as it was before.
- Names that begin with a dot are nobody's; of the folders in a model's, numbers are versions.
- A version is what it was while the files that make it up, and its settings, are as they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from smls.errors import ModelUnusable
from smls.wire import NAME
from smls_node.formats import GRAPH, candidates, recognised
from smls_node.modelfile import FILES, NAMED, ModelFile, counts, parse
from smls_node.settings import ModelSettings
from smls_node.versions import MAX_VERSION, Edition

DEPTH = 3
"""Folders within a version that are looked at: a SavedModel's variables, in Triton's layout, lie
in the second."""


@frozen
class Source:
    """A folder of models, or of one model where ``is_model``."""

    path: Path
    is_model: bool = False


@frozen(order=True)
class Part:
    """The folder of a model, or that of one of its versions."""

    model: Path
    version: str = ""


@frozen
class File:
    """A file as a look finds it, by its name relative to the folder looked at; ``text`` is read
    of a model's settings file alone."""

    name: str
    size: int = 0
    modified_ns: int = 0
    inode: int = 0
    text: str = ""


Parts = Mapping[Part, tuple[File, ...]]


@frozen
class Seen:
    """What one look has found, and which models' folders it could not read, with the reason."""

    parts: Parts = field(factory=dict)
    unreadable: Mapping[Path, str] = field(factory=dict)


@frozen
class Wanted:
    """The editions that are wanted, the versions that each model's labels stand for, and notes
    on what is not served, for people."""

    editions: tuple[Edition, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = field(factory=dict)
    notes: tuple[str, ...] = ()


def check(sources: Iterable[Source]) -> None:
    """Checks that there is something to look at.

    :raises ModelUnusable: naming the folder that is none.
    """
    for source in sources:
        if not source.path.is_dir():
            raise ModelUnusable(f"{source.path}: there is no such folder")
        if source.is_model and not _is_model(source.path):
            raise ModelUnusable(
                f"{source.path} holds neither versions (folders named by numbers) nor a model "
                f"of a known format nor {' or '.join(FILES)}; where it is a folder of models: "
                f"--models {source.path}"
            )


def look(sources: Iterable[Source]) -> Seen:
    """What lies there now. Blocks: use a thread.

    :raises OSError: where a folder of models cannot be read.
    """
    parts: dict[Part, tuple[File, ...]] = {}
    unreadable: dict[Path, str] = {}
    for source in sources:
        for model in [source.path] if source.is_model else _folders(source.path):
            try:
                parts.update(_parts(model))
            except FileNotFoundError:
                continue
            except OSError as error:
                unreadable[model] = str(error)
    return Seen(parts, unreadable)


def settle(settled: Parts, before: Seen, now: Seen) -> Parts:
    """What counts after two looks, and after ``settled`` counted before."""
    unclear = before.unreadable.keys() | now.unreadable.keys()
    result: dict[Part, tuple[File, ...]] = {}
    for part in sorted(settled.keys() | now.parts.keys()):
        fresh = now.parts.get(part)
        agreed = part.model not in unclear and fresh == before.parts.get(part)
        files = fresh if agreed else settled.get(part)
        if files is not None:
            result[part] = files
    return result


def wanted(
    parts: Parts, sources: Sequence[Source], defaults: ModelSettings, taken: Iterable[str] = ()
) -> Wanted:
    """What is wanted of what lies there, with ``defaults`` for what no settings file says.

    A model whose name is ``taken``, or that lies in an earlier source too, is not served.
    """
    editions: list[Edition] = []
    labels: dict[str, Mapping[str, str]] = {}
    notes: list[str] = []
    owners: dict[str, Path] = {}
    for model in _in_order(parts, sources):
        told, problem = _told(model, parts)
        name = told.name or model.name
        if NAME.fullmatch(name) is None:
            notes.append(f"{model} is not served: got {name!r}, wanted a name like {NAME.pattern}")
        elif name in taken:
            notes.append(f"{model} is not served: a --graph is model {name} already")
        elif name in owners:
            notes.append(f"{model} is not served: {owners[name]} is model {name} already")
        else:
            owners[name] = model
            found = _model(model, told, problem, parts, evolve(defaults, name=name))
            editions += found.editions
            notes += found.notes
            labels.update(found.labels)
    return Wanted(tuple(editions), labels, tuple(notes))


def _told(model: Path, parts: Parts) -> tuple[ModelFile, str]:
    """What the model's settings file says, and what is wrong with it."""
    files = [file for file in parts[Part(model)] if file.name in FILES]
    if len(files) > 1:
        return ModelFile(), f"{model}: got {' and '.join(FILES)}, wanted one of them"
    try:
        return next((parse(file.text, model / file.name) for file in files), ModelFile()), ""
    except ModelUnusable as error:
        return ModelFile(), error.message


def _model(
    model: Path, told: ModelFile, problem: str, parts: Parts, defaults: ModelSettings
) -> Wanted:
    own = parts[Part(model)]
    folders: dict[int, list[str]] = {}
    for part, files in parts.items():
        if part.model == model and part.version and files:
            folders.setdefault(int(part.version), []).append(part.version)
    if not folders and (problem or _is_told(told) or candidates(each.name for each in own)):
        folders = {1: [""]}
    chosen = told.policy.chosen(folders)
    notes = [
        f"{model}: there is no version {number}, which its settings ask for"
        for number in sorted(told.policy.specific - set(chosen))
    ]
    if not folders:
        notes.append(f"{model} holds no version, a folder named by a number with a model in it")
    notes += [
        f"{model / each.name} is not read: what it says of batches may stand in {NAMED}"
        for each in own
        if each.name == "config.pbtxt"
    ]
    settings = told.applied(defaults)

    def edition(number: int) -> Edition:
        is_folder = folders[number] != [""]
        version = str(number) if is_folder or told.version is None else told.version
        its = evolve(settings, version=version)
        if problem:
            return Edition(its, problem=problem)
        return _edition(model, folders[number], parts, its, told)

    return Wanted(
        tuple(map(edition, chosen)),
        {str(defaults.name): told.version_labels},
        tuple(notes),
    )


def _edition(
    model: Path, names: list[str], parts: Parts, settings: ModelSettings, told: ModelFile
) -> Edition:
    """The version in the folder ``names[0]``, which should be the only one of its number."""
    folder = model / names[0]
    files, own = parts[Part(model, names[0])], parts[Part(model)]
    stamps = (files, own)
    settings = evolve(settings, path=folder)
    if len(names) > 1:
        return Edition(settings, stamps, f"{model}: {' and '.join(names)} are one version")
    if settings.implementation:
        return Edition(settings, tuple(each for each in (*files, *own) if counts(each.name)))
    if told.uri:
        files = tuple(each for each in files if _is_at(each.name, told.uri))
    try:
        found = recognised((each.name for each in files), folder, settings.format)
    except ModelUnusable as error:
        return Edition(settings, stamps, error.message)
    settings = evolve(settings, path=folder / found.name, format=found.format.name)
    own_files = tuple(each for each in files if found.holds(each.name))
    for place, listing in ((folder, files), (model, own)):
        texts = _labels(listing, told.labels)
        if len(texts) > 1:
            got = ", ".join(each.name for each in texts)
            return Edition(settings, stamps, f"{place}: got {got}, wanted one file of labels")
        if texts:
            settings = evolve(settings, labels=place / texts[0].name)
            return Edition(settings, (*own_files, texts[0]))
    if told.labels is None and found.format is not GRAPH:
        return Edition(settings, own_files)
    lacking = told.labels or "labels.txt"
    return Edition(
        settings, stamps, f"{folder}: its labels, {lacking}, are neither there nor in {model}"
    )


def _labels(files: Iterable[File], name: str | None) -> list[File]:
    """The file ``name``; without one ``labels.txt``, or else each file that may be labels."""
    texts = [
        each
        for each in files
        if each.name.endswith(".txt") and "labels" in each.name and "/" not in each.name
    ]
    if name is not None:
        return [each for each in files if each.name == name]
    return [each for each in texts if each.name == "labels.txt"] or texts


def _in_order(parts: Parts, sources: Sequence[Source]) -> list[Path]:
    models = sorted({part.model for part in parts if Part(part.model) in parts})
    return [
        model
        for source in sources
        for model in models
        if (model == source.path if source.is_model else model.parent == source.path)
    ]


def _folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return sorted(path / each.name for each in entries if each.name[0] != "." and each.is_dir())


def _parts(model: Path) -> dict[Part, tuple[File, ...]]:
    parts = {Part(model): _files(model)}
    for folder in _folders(model):
        if _is_version(folder.name):
            try:
                parts[Part(model, folder.name)] = _files(folder)
            except FileNotFoundError:
                continue
    return parts


def _files(folder: Path, within: str = "", depth: int = DEPTH) -> tuple[File, ...]:
    """The files in ``folder`` and in those within it, which in a model's own are no versions."""
    files: list[File] = []
    with os.scandir(folder / within) as entries:
        for entry in entries:
            name = f"{within}{entry.name}"
            if entry.name[0] == ".":
                continue
            if entry.is_file():
                stat = entry.stat()
                text = Path(entry).read_text(errors="replace") if name in FILES else ""
                files.append(File(name, stat.st_size, stat.st_mtime_ns, stat.st_ino, text))
            elif depth and entry.is_dir() and not _is_version(entry.name):
                files += _files(folder, f"{name}/", depth - 1)
    return tuple(sorted(files, key=lambda file: file.name))


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 30 and int(name) <= MAX_VERSION


def _is_told(told: ModelFile) -> bool:
    """Whether the settings say where the model is, and so need none to be found."""
    return bool(told.uri or told.fields.get("implementation") or told.fields.get("format"))


def _is_at(name: str, uri: str) -> bool:
    """Whether the file is what ``uri``, relative to the same folder, means, or lies in it."""
    place = uri.removeprefix("./").rstrip("/")
    return place in ("", ".") or name == place or name.startswith(f"{place}/")


def _is_model(path: Path) -> bool:
    names = [each.name for each in _files(path)]
    versions = any(_is_version(each.name) for each in _folders(path))
    return versions or any(name in FILES for name in names) or bool(candidates(names))
