# SPDX-License-Identifier: MIT
"""Classes of users' own, as they lie in folders, loaded and asked as a node does."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from smls.errors import BadRequest, DeadlineExceeded, ModelUnusable, NodeFault, SmlsError
from smls.tensors import Tensors
from smls_node import loading, repository
from smls_node.catalogue import Catalogue, Model
from smls_node.means import Means
from smls_node.pools import Pools
from smls_node.pymodel.kinds import as_bytes
from smls_node.repository import Source
from smls_node.serving import Ask, Phase, Serving
from smls_node.settings import ModelSettings
from smls_node.signature import OF_INPUTS
from tests.node.memory import stepped
from tests.node.turns import AtOnce

HEAD = """
from smls_node import MLModel, decode_args
from typing import List
import numpy as np
"""

SIMILAR = (
    HEAD
    + """
class MyKulModel(MLModel):

    async def load(self):
        self.model = set

    @decode_args
    async def predict(self, docs: List[str]) -> np.ndarray:
        one, two = self.model(docs[0].split()), self.model(docs[1].split())
        return np.array(len(one & two) / len(one | two))
"""
)


class Folder:
    """A model's folder, and what is loaded of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[Model] = []
        self.now = 0.0
        ticks = count()

        def seconds() -> float:
            return self.now + next(ticks) / 1000

        self.means = Means(path / "findings", Pools(), seconds, AtOnce())
        self.serving = Serving(Catalogue(), seconds)
        self.serving.phase = Phase.READY

    def put(self, code: str, name: str = "m", /, **settings: Any) -> Path:
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        (folder / "my_model.py").write_text(dedent(code))
        told = {"name": name, "implementation": "my_model.MyKulModel", **settings}
        (folder / "model-settings.json").write_text(json.dumps(told))
        return folder

    def settings(self, folder: Path) -> ModelSettings:
        source = Source(folder, is_model=True)
        repository.check([source])
        seen = repository.look([source])
        (edition,) = repository.wanted(seen.parts, [source], ModelSettings(Path())).editions
        assert not edition.problem, edition.problem
        return edition.settings

    def load(self, code: str, name: str = "m", /, **settings: Any) -> Model:
        model = loading.load(self.settings(self.put(code, name, **settings)), self.means)
        self.loaded.append(model)
        self.serving.catalogue.add(model)
        return model

    def ask(self, model: Model, /, **tensors: Any) -> Tensors:
        answers: list[Any] = []
        self.begin(model, **tensors).addBoth(answers.append)
        while stepped(model).step():
            pass
        (answer,) = answers
        if isinstance(getattr(answer, "value", None), BaseException):
            raise answer.value
        return answer.outputs  # type: ignore[no-any-return]

    def begin(self, model: Model, /, **tensors: Any) -> Deferred[Any]:
        given = {
            name: as_bytes(np.array(value, object)) if isinstance(value, list) else value
            for name, value in tensors.items()
        }
        return self.serving.infer(given, Ask(30.0, model.name))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    for model in made.loaded:
        model.give_back()
    assert not [each for each in threading.enumerate() if each.name.endswith("-python")]


def test_the_guides_service_runs_as_written(folder: Folder) -> None:
    model = folder.load(SIMILAR, "similarity_model", name="doc-sim-model")
    assert (model.name, model.version) == ("doc-sim-model", "1")
    assert model.arrangement.runs == 1
    outputs = folder.ask(model, docs=["one two three", "two three four"])
    assert {name: array.tolist() for name, array in outputs.items()} == {"output-0": [0.5]}
    assert outputs["output-0"].dtype == np.float64
    _, signature = model.signature()
    assert [(each.name, str(each)) for each in signature.inputs] == [("docs", "BYTES[?]")]
    assert signature.is_open
    assert not signature.batches
    with pytest.raises(BadRequest, match=r"got 'texts', wanted docs: list\[str\]"):
        folder.ask(model, texts=["a"])


def test_its_import_lines_may_stay_too(folder: Folder) -> None:
    code = SIMILAR.replace(
        "from smls_node import MLModel, decode_args",
        "from mlserver.codecs import decode_args\nfrom mlserver import MLModel",
    )
    assert folder.ask(folder.load(code), docs=["a", "a"])["output-0"].tolist() == [1.0]


def test_a_class_of_requests_sees_its_settings_and_files(folder: Folder) -> None:
    code = """
    import json
    from mlserver import MLModel, types
    from mlserver.codecs import StringCodec
    from mlserver.utils import get_model_uri

    class MyKulModel(MLModel):
        async def load(self) -> bool:
            with open(await get_model_uri(self._settings)) as file:
                self.greeting = json.load(file)[self.settings.parameters.extra["tongue"]]
            return await super().load()

        async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
            assert self.ready
            said = {each.name: self.decode(each, default_codec=StringCodec)[0]
                    for each in payload.inputs}
            text = json.dumps({"request": said, "greeting": self.greeting}).encode()
            return types.InferenceResponse(
                id=payload.id, model_name=self.name, model_version=self.version,
                outputs=[types.ResponseOutput(
                    name="echo", shape=[len(text)], datatype="BYTES", data=[text],
                    parameters=types.Parameters(content_type="str"))])
    """
    (folder.path / "m").mkdir()
    (folder.path / "m" / "greetings.json").write_text('{"en": "hello"}')
    parameters = {"uri": "./greetings.json", "version": "v0.1.0", "extra": {"tongue": "en"}}
    model = folder.load(code, parameters=parameters, platform="own", max_batch_time=0)
    assert model.version == "v0.1.0"
    answer = json.loads(folder.ask(model, name=["World"])["echo"].item())
    assert answer == {"request": {"name": "World"}, "greeting": "hello"}


def test_a_plain_class_will_do_and_two_folders_do_not_collide(folder: Folder) -> None:
    code = """
    import helper

    class MyKulModel:
        def load(self):
            self.times = helper.TIMES

        def predict(self, x: float, y: float = 1.0) -> dict[str, float]:
            return {"product": x * y * self.times}
    """
    models = []
    for times, name in ((2, "one"), (3, "two")):
        (folder.path / name).mkdir()
        (folder.path / name / "helper.py").write_text(f"TIMES = {times}")
        models.append(folder.load(code, name))
    answers = [folder.ask(each, x=np.array([5.0]))["product"].tolist() for each in models]
    assert answers == [[10.0], [15.0]]


def test_load_predict_and_unload_share_one_thread_and_loop(folder: Folder) -> None:
    code = """
    import asyncio, threading

    class MyKulModel:
        async def load(self):
            self.seen, self.loop = [threading.get_ident()], asyncio.get_running_loop()

        def predict(self, x: int) -> bool:
            self.seen.append(threading.get_ident())
            return asyncio.get_running_loop() is self.loop

        async def unload(self):
            self.seen.append(threading.get_ident())
            (SEEN := __import__("builtins")).seen_by_the_test = self.seen
    """
    import builtins

    model = folder.load(code)
    assert folder.ask(model, x=np.array(1))["output-0"].tolist() == [True]
    folder.loaded.remove(model)
    model.give_back()
    seen = builtins.__dict__.pop("seen_by_the_test")
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_rows_are_joined_where_the_settings_ask_for_batches(folder: Folder) -> None:
    code = """
    import numpy as np

    class MyKulModel:
        def predict(self, x: np.ndarray, words: list[str]) -> tuple[np.ndarray, list[str]]:
            assert len(x) == len(words)
            return np.full(len(x), len(x)), [word * 2 for word in words]
    """
    model = folder.load(code, max_batch_size=8, max_batch_time=0.001)
    assert model.workers.batcher.limits.max_queue_delay == 0.001
    folder.ask(model, x=np.zeros((1, 2)), words=["to learn how long it takes"])
    answers: list[Any] = []
    for rows in (1, 3, 4):
        words = [f"{rows}-{row}" for row in range(rows)]
        folder.begin(model, x=np.zeros((rows, 2)), words=words).addBoth(answers.append)
    for told in ("str", "str", "np"):
        parameters = {OF_INPUTS: {"words": {"content_type": told}}}
        given = {"x": np.zeros((1, 2)), "words": as_bytes(np.array([told], object))}
        folder.serving.infer(given, Ask(30.0, model.name), None, parameters).addBoth(answers.append)
    while stepped(model).step():
        pass
    # Only what is said to be alike is joined.
    assert [each.outputs["output-0"].tolist() for each in answers[3:]] == [[[2]], [[2]], [[1]]]
    del answers[3:]
    assert [each.outputs["output-0"].tolist() for each in answers] == [
        [[8]],
        [[8]] * 3,
        [[8]] * 4,
    ]
    assert answers[1].outputs["output-1"].tolist() == [[b"3-03-0"], [b"3-13-1"], [b"3-23-2"]]


@pytest.mark.parametrize(
    ("code", "told", "in_log"),
    [
        ("import nowhere", "import failed: ModuleNotFoundError: No module named", "my_model.py"),
        ("class MyKulModel(:", "import failed: SyntaxError: invalid syntax", "my_model.py"),
        ("class Other:\n    pass", "import failed: there is no class MyKulModel; it has Other", ""),
        ("class MyKulModel:\n    pass", "MyKulModel has no method predict", ""),
        (
            "class MyKulModel:\n    def load(self): self.load_the_weights()\n"
            "    def predict(self, x: int): ...",
            "load failed: AttributeError: 'MyKulModel' object has no attribute 'load_the_weights'",
            "self.load_the_weights()",
        ),
        (
            "class MyKulModel:\n    def __init__(self): raise OSError('no disk')\n"
            "    def predict(self, x: int): ...",
            "__init__ failed: OSError: no disk",
            "raise OSError",
        ),
        (
            "class MyKulModel:\n    async def load(self): return False\n"
            "    def predict(self, x: int): ...",
            "load gave False, which says that it is not ready",
            "",
        ),
        (
            "class MyKulModel:\n    def load(self): raise SystemExit(3)\n"
            "    def predict(self, x: int): ...",
            "load failed: RuntimeError: the model's code tried to exit: SystemExit(3)",
            "raise SystemExit",
        ),
        (
            "import threading\nclass MyKulModel:\n    def predict(self, x: threading.Thread): ...",
            "type hints failed: TypeError: argument x: got the type hint <class 'threading",
            "",
        ),
        ("", "import failed: there is no class MyKulModel", ""),
    ],
)
def test_what_cannot_be_loaded_is_told_and_its_traceback_is_logged(
    folder: Folder, caplog: pytest.LogCaptureFixture, code: str, told: str, in_log: str
) -> None:
    with pytest.raises(ModelUnusable) as raised:
        folder.load(code)
    assert f"{folder.path / 'm'}: my_model.MyKulModel: {told}" in raised.value.message or (
        told in raised.value.message
    )
    assert "Traceback" not in raised.value.message
    assert in_log in caplog.text


@pytest.mark.parametrize("body", ["raise KeyError('secret')", "import sys; sys.exit(1)"])
def test_what_predict_raises_is_a_fault_with_an_id_and_the_next_is_answered(
    folder: Folder, events: list[LogEvent], body: str
) -> None:
    code = f"""
    class MyKulModel:
        async def predict(self, x: int) -> int:
            if x == 0:
                {body}
            return x
    """
    model = folder.load(code)
    with pytest.raises(NodeFault) as raised:
        folder.ask(model, x=np.array(0))
    assert "secret" not in raised.value.message
    (fault,) = (each for each in events if "fault_id" in each)
    assert fault["fault_id"] in raised.value.message
    assert body.split("; ")[-1] in fault["log_failure"].getTraceback()
    assert folder.ask(model, x=np.array(7))["output-0"].tolist() == [7]


def test_a_request_that_the_class_calls_bad_is_told_so(folder: Folder) -> None:
    code = """
    from mlserver.errors import InferenceError

    class MyKulModel:
        def predict(self, x: int) -> int:
            raise InferenceError("x: got 7, wanted any other")
    """
    with pytest.raises(BadRequest, match="x: got 7, wanted any other"):
        folder.ask(folder.load(code), x=np.array(7))


def test_several_runs_are_at_once_where_they_are_told(folder: Folder, tmp_path: Path) -> None:
    sync = """
    import threading

    class MyKulModel:
        def load(self): self.barrier = threading.Barrier(2)

        def predict(self, x: int) -> int:
            self.barrier.wait(10)
            return x
    """
    asynchronous = """
    import asyncio

    class MyKulModel:
        def load(self): self.waiting, self.both = 0, asyncio.Event()

        async def predict(self, x: int) -> int:
            self.waiting += 1
            if self.waiting == 2:
                self.both.set()
            await asyncio.wait_for(self.both.wait(), 10)
            return x
    """
    for name, code in (("sync", sync), ("async", asynchronous)):
        model = folder.load(code, name, operator_threads=1, runs=2)
        answers: list[Any] = []
        model.workers.start()
        done = threading.Semaphore(0)

        def answered(result: Any, done: threading.Semaphore = done, to: Any = answers) -> None:
            to.append(result)
            done.release()

        for number in (1, 2):
            folder.begin(model, x=np.array(number)).addBoth(answered)
        assert done.acquire(timeout=20)
        assert done.acquire(timeout=20)
        assert sorted(each.outputs["output-0"].item() for each in answers) == [1, 2]
        assert model.workers.stop(5.0)


def test_the_same_model_is_one_object_and_another_code_another_one(folder: Folder) -> None:
    first = folder.load(SIMILAR)
    again = loading.load(folder.settings(folder.path / "m"), folder.means)
    assert again.runtime is first.runtime
    other = folder.load(SIMILAR + "\n# changed")
    assert other.runtime is not first.runtime
    again.give_back()
    docs = as_bytes(np.array(["a", "b"], object))
    assert first.runtime.infer({"docs": docs}, "", {})["output-0"].tolist() == [0.0]


def test_versions_have_their_own_code_or_share_their_models(folder: Folder) -> None:
    made = folder.put(
        "class MyKulModel:\n    def predict(self) -> int: return NUMBER", versions="all"
    )
    (made / "my_model.py").write_text(
        "import number\nclass MyKulModel:\n    def predict(self) -> int: return number.N\n"
    )
    for version in (1, 2):
        (made / str(version)).mkdir()
        (made / str(version) / "number.py").write_text(f"N = {version * 10}")
    source = Source(made, is_model=True)
    editions = repository.wanted(
        repository.look([source]).parts, [source], ModelSettings(Path())
    ).editions
    got = []
    for edition in editions:
        model = loading.load(edition.settings, folder.means)
        got.append((model.version, model.runtime.infer({}, "", {})["output-0"].tolist()))
        model.give_back()
    assert got == [("1", [10]), ("2", [20])]


def test_errors_are_smls_errors_alone(folder: Folder) -> None:
    """A class that raises one of ours says whose fault it is."""
    code = """
    from smls.errors import Overloaded

    class MyKulModel:
        def predict(self, x: int) -> int:
            raise Overloaded("the database is away", retry_after_seconds=3.0)
    """
    with pytest.raises(SmlsError) as raised:
        folder.ask(folder.load(code), x=np.array(7))
    assert raised.value.retry_after_seconds == 3.0


def test_a_hang_is_answered_at_its_deadline_and_others_go_on(folder: Folder) -> None:
    code = """
    import threading

    HUNG, GO_ON = threading.Event(), threading.Event()

    class MyKulModel:
        def predict(self, x: int) -> int:
            HUNG.set()
            GO_ON.wait(60)
            return x
    """
    hangs, usual = folder.load(code, "hangs"), folder.load(SIMILAR, "usual")
    hangs.workers.start()
    answers: list[Any] = []
    folder.begin(hangs, x=np.array(1)).addBoth(answers.append)
    own: Any = hangs.runtime
    user = sys.modules[type(own._model).__module__]
    assert user.HUNG.wait(20)
    assert folder.ask(usual, docs=["a", "a"])["output-0"].tolist() == [1.0]
    assert not answers
    folder.now = 60.0
    folder.serving.expire()
    (answer,) = answers
    assert answer.check(DeadlineExceeded)
    assert not hangs.workers.stop(0.01)
    user.GO_ON.set()
    assert hangs.workers.stop(20.0)


def test_what_a_class_prints_and_logs_goes_through(
    folder: Folder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    code = """
    import logging

    class MyKulModel:
        def predict(self, x: int) -> int:
            print("printed", x)
            logging.getLogger(__name__).info("logged %s", x)
            return x
    """
    folder.ask(folder.load(code), x=np.array(7))
    assert capsys.readouterr().out == "printed 7\n"
    assert "logged 7" in caplog.messages
