# SPDX-License-Identifier: MIT
"""A node that knows what it was told to answer, and remembers what it was asked.

It speaks what clients of smls speak, and no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from attrs import field, frozen
from twisted.logger import Logger

from smls.errors import BadRequest, ModelNotFound, SmlsError
from smls.served import version_order
from smls.testing.server import FakeRequest, FakeServer, fail, respond
from smls.wire import LOAD_HEADER, LoadReport, ModelRecord, NodeRecord, check_name

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from smls.inference import InferRequest
    from smls.tensors import Tensors

_INFER = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

_CALLS = {
    b"/classify": "classify",
    b"/embed": "embed",
    b"/": "predict",
    b"/v2/repository/index": "models",
}


@frozen
class FakeModel:
    """A version of a model, and what it answers.

    It takes those kinds of call that it has an answer for; others are the caller's
    ``BadRequest``. Where an answer raises one of ``smls.errors`` the node tells it; anything else
    that it raises is logged, and a ``NodeFault``. Answers are given in the fleet's thread, one at
    a time.

    :param labels: names that the version goes by, such as ``canary``.
    :param classify: a score for each label; or what gives them for an image's bytes.
    :param embed: gives the vector of a text.
    :param predict: gives the prediction for a row, which names its features.
    :param infer: gives arrays by name for arrays by name; needs numpy.
    :raises BadRecord: where the name or the version is none.
    """

    name: str = field(validator=lambda _, __, name: check_name("model", name))
    version: str = field(
        default="1", converter=str, validator=lambda _, __, name: check_name("version", name)
    )
    labels: tuple[str, ...] = field(default=(), converter=tuple)
    classify: Mapping[str, float] | Callable[[bytes], Mapping[str, float]] | None = field(
        default=None, kw_only=True
    )
    embed: Callable[[str], Iterable[float]] | None = field(default=None, kw_only=True)
    predict: Callable[[dict[str, Any]], Any] | None = field(default=None, kw_only=True)
    infer: Callable[[Tensors], Mapping[str, ArrayLike]] | None = field(default=None, kw_only=True)

    @property
    def record(self) -> ModelRecord:
        return ModelRecord(self.name, self.version, labels=self.labels)


@frozen
class Asked:
    """A call that has reached a node, by the node's name.

    ``call`` is the name of the client's method; ``model`` and ``version`` are as the node was
    asked for them, ``None`` where it may choose.
    """

    node: str
    call: str
    model: str | None = None
    version: str | None = None
    top: int | None = None
    body: bytes = field(default=b"", repr=False)
    json_bytes: str | None = field(default=None, repr=False)

    @cached_property
    def inputs(self) -> Any:
        """An image's bytes, a list of texts or of rows, or arrays by name, as the call is.

        :raises BadRequest: where the body is nothing of the kind.
        """
        if self.call == "classify":
            return self.body
        if self.call == "infer":
            return self.request.inputs
        try:
            return json.loads(self.body)
        except ValueError as wrong:
            raise BadRequest(f"the body is no JSON: {wrong}") from wrong

    @cached_property
    def request(self) -> InferRequest:
        """An ``infer`` as the Open Inference Protocol has it.

        :raises BadRequest: where it is none.
        """
        from smls.inference import json_length, read_request

        return read_request(self.body, json_length(self.json_bytes, len(self.body)))


class FakeNode(FakeServer):
    """A node with these models, of which the first is the default; ``calls`` is what it was asked,
    in that order, whatever it answered.

    It reports its load where it has a ``load`` to report; clients take turns among nodes that
    report none.
    """

    _log = Logger()

    def __init__(
        self, name: str, models: Iterable[FakeModel] = (), calls: list[Asked] | None = None
    ) -> None:
        super().__init__(self._answer)
        self.name = name
        self.models = tuple(models)
        self.calls: list[Asked] = [] if calls is None else calls
        self.load: LoadReport | None = None
        self._starts = 0

    @property
    def record(self) -> NodeRecord:
        """As the registry lists it; its ``id`` is another after each start."""
        return NodeRecord(
            id=f"{self.name}-{self.port}-{self._starts}",
            address=self.address,
            name=self.name,
            models=tuple(model.record for model in self.models),
        )

    def start(self, reactor: Any, interface: str = "127.0.0.1") -> None:
        super().start(reactor, interface)
        self._starts += 1

    def received(self, request: FakeRequest) -> None:
        asked = self._asked(request)
        if asked is not None:
            self.calls.append(asked)
        if self.load is not None:
            request.setHeader(LOAD_HEADER, self.load.to_header())  # type: ignore[no-untyped-call]
        super().received(request)

    def _asked(self, request: FakeRequest) -> Asked | None:
        if request.method != b"POST":
            return None
        request.content.seek(0)
        body: bytes = request.content.read()
        tensors = _INFER.fullmatch(request.path)
        if tensors is not None:
            model, version = (
                None if part is None else unquote_to_bytes(part).decode()
                for part in tensors.groups()
            )
            length = request.getHeader("Inference-Header-Content-Length")
            return Asked(self.name, "infer", model, version, body=body, json_bytes=length)
        call = _CALLS.get(request.path)
        if call is None:
            return None
        query = {name: values[-1].decode() for name, values in request.args.items()}
        top = query.get(b"top")
        return Asked(
            node=self.name,
            call=call,
            model=query.get(b"model"),
            version=query.get(b"version"),
            top=None if top is None else int(top),
            body=body,
        )

    def _answer(self, request: FakeRequest) -> None:
        asked = self._asked(request)
        if asked is None:
            path = request.path.decode("latin-1")
            fail("not_found", f"a fake node has nothing at {path}")(request)
            return
        try:
            body, headers = self._told(asked)
        except SmlsError as wrong:
            fail(wrong.code, wrong.message, retry_after_seconds=wrong.retry_after_seconds)(request)
        except Exception as wrong:
            self._log.failure("{asked}", asked=asked)
            fail("internal", f"the fake's answer raised {wrong!r}")(request)
        else:
            respond(request, 200, body, headers)

    def _told(self, asked: Asked) -> tuple[bytes, list[tuple[str, str]]]:
        """The body and headers of the answer."""
        if asked.call == "models":
            told: Any = [
                {"name": model.name, "version": model.version, "state": "READY", "reason": ""}
                for model in self.models
            ]
            return json.dumps(told).encode(), []
        model = self._find(asked.model, asked.version)
        answer = getattr(model, asked.call)
        if answer is None:
            raise BadRequest(
                f"model {model.name}: got a call of {asked.call}, which FakeModel({model.name!r}) "
                "has no answer for"
            )
        if asked.call == "infer":
            return _inferred(model, answer, asked.request)
        if asked.call == "classify":
            scores = answer(asked.inputs) if callable(answer) else answer
            best = sorted(scores.items(), key=lambda each: -each[1])[: asked.top]
            told = {
                "model": model.name,
                "version": model.version,
                "node": self.name,
                "predictions": [{"label": label, "score": score} for label, score in best],
            }
        elif asked.call == "embed":
            told = [[_number(number) for number in answer(text)] for text in asked.inputs]
        else:
            told = {"prediction": [answer(row) for row in asked.inputs]}
        return json.dumps(told, default=lambda number: number.item()).encode(), []

    def _find(self, name: str | None, version: str | None) -> FakeModel:
        """The version of the model, its latest where none is asked for."""
        if not self.models:
            raise ModelNotFound("the fake node has no models")
        wanted = self.models[0].name if name is None else name
        known = {model.version: model for model in self.models if model.name == wanted}
        if not known:
            names = ", ".join(dict.fromkeys(model.name for model in self.models))
            raise ModelNotFound(f"model: got {wanted!r}, wanted one of {names}")
        latest = max(known, key=version_order) if version is None else version
        if latest not in known:
            wants = ", ".join(known)
            raise ModelNotFound(f"model {wanted}: version: got {version!r}, wanted one of {wants}")
        return known[latest]


def _inferred(
    model: FakeModel, answer: Callable[[Tensors], Mapping[str, ArrayLike]], request: InferRequest
) -> tuple[bytes, list[tuple[str, str]]]:
    import numpy as np

    from smls.inference import LENGTH_HEADER, InferAnswer, write_answer

    outputs = {name: np.asarray(array) for name, array in answer(request.inputs).items()}
    names = [each.name for each in request.outputs] or [*outputs]
    for name in names:
        if name not in outputs:
            raise BadRequest(f"outputs: got {name!r}, wanted {', '.join(outputs)}")
    chosen = {name: outputs[name] for name in names}
    binary = frozenset(filter(request.is_binary, chosen))
    written = write_answer(InferAnswer(model.name, model.version, chosen, request.id), binary)
    if written.json_bytes is None:
        return written.data, []
    return written.data, [(LENGTH_HEADER, str(written.json_bytes))]


def _number(number: float) -> float | None:
    """As JSON has it, where what is no number is ``null``."""
    return float(number) if isfinite(number) else None
