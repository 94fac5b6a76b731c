# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest
from twisted.python.usage import UsageError

from smls import program
from smls.errors import MissingExtra
from smls_node import loading
from smls_node.repository import Source
from smls_node.settings import Device, Limits, ModelSettings
from smls_node.tap import Options, check_grpc


def parsed(line: str) -> Options:
    options = Options()
    options.parseOptions(line.split())
    return options


def test_each_graph_begins_a_model_whose_options_follow() -> None:
    line = "--graph a.pb --labels a.txt --graph b.pb --labels b.txt --version 3 --name bee"
    first, second = parsed(f"{line} --input-mean 127.5 --input-std=127.5")["models"]
    assert first == ModelSettings(Path("a.pb"), Path("a.txt"), format="graph")
    assert second == ModelSettings(
        Path("b.pb"), Path("b.txt"), "bee", "3", "graph", mean=127.5, std=127.5
    )


def test_a_model_of_any_format_needs_no_labels() -> None:
    line = "--device cpu --model a.skops --model b --format onnx --name bee --device cuda:1"
    more = "--gpu-memory-bytes 2G --gpu-memory-fraction 0.5 --gpu-memory-growth off"
    first, second = parsed(f"{line} {more}")["models"]
    assert first == ModelSettings(Path("a.skops"), device=Device("cpu"))
    device = Device("cuda:1", False, 0.5, 2_000_000_000)
    assert second == ModelSettings(Path("b"), name="bee", format="onnx", device=device)


def test_an_image_model_is_fed_as_is_said() -> None:
    line = "--model resnet.onnx --labels l.txt --input-mean 123.675,116.28,103.53"
    (model,) = parsed(f"{line} --input-std 58 --input-layout NCHW --scores softmax")["models"]
    assert (model.mean, model.std) == ((123.675, 116.28, 103.53), 58.0)
    assert (model.layout, model.scores) == ("NCHW", "softmax")


def test_how_models_are_run_is_said_for_all_and_for_each() -> None:
    line = "--max-batch-size 8 --runs 2 --operator-threads 1 --graph a.pb --labels a.txt"
    more = "--runs 1 --max-queue-delay 0.5 --allowed-batch-sizes 4,1 --max-queue-bytes 2M"
    first, second = parsed(f"{line} --graph b.pb --labels b.txt {more} --max-queue-size 9")[
        "models"
    ]
    assert (first.operator_threads, first.runs) == (1, 2)
    assert first.limits == Limits(8)
    assert (second.operator_threads, second.runs) == (1, 1)
    assert second.limits == Limits(8, 0.5, (1, 4), 9, 2_000_000)


def test_the_built_in_model_is_run_as_was_said() -> None:
    (digits,) = loading.named_or_embedded(
        parsed("--operator-threads 1 --runs 2 --max-batch-size 3")
    )
    assert (digits.name, digits.operator_threads, digits.runs) == ("digits", 1, 2)
    assert digits.limits == Limits(3)
    assert loading.named_or_embedded(parsed("")) == (loading.EMBEDDED,)


def test_a_queue_may_be_told_not_to_delay() -> None:
    (digits,) = loading.named_or_embedded(parsed("--max-queue-delay 0"))
    assert digits.limits == Limits()


def test_a_bare_version_is_the_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parsed("--version")
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("simple-ml-serving ")


def test_folders_of_models_repeat_and_one_model_stands_alone() -> None:
    options = parsed("--models a --runs 1 --operator-threads 2 --models=/b one")
    here = Path.cwd()
    assert options["sources"] == [
        Source(here / "a"),
        Source(Path("/b")),
        Source(here / "one", is_model=True),
    ]
    assert loading.named_or_embedded(options) == ()
    assert (options["default"].runs, options["default"].operator_threads) == (1, 2)
    assert len(loading.named_or_embedded(parsed("--graph g.pb --labels l --models a"))) == 1


def test_registries_repeat_and_may_be_plain_addresses() -> None:
    options = parsed("--registry http://a:1 --registry b:2 --registry c")
    assert options["registries"] == ["http://a:1", "http://b:2", "http://c:12480"]


def test_replicas_are_started_with_what_was_told() -> None:
    line = "--replicas 3 --replica-ports 9001 --port 9000 --advertise gpu1"
    options = parsed(line)
    assert (options["replicas"], options["arguments"]) == (3, line.split())
    assert parsed("")["replicas"] == 1


def test_amounts_have_units() -> None:
    options = parsed("--max-upload 500k --max-pixels 12")
    assert (options["max-upload"], options["max-pixels"]) == (500_000, 12)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--labels l.txt", "--labels belongs to a model"),
        ("--graph g.pb", "--labels is missing"),
        ("--graph g.pb --labels l --name a/b", "--name: got 'a/b'"),
        ("--graph g.pb --labels l --input-std 0", r"--input-std: got \[0.0\], wanted 1 at least"),
        ("--model m --input-std .2,.2,.2", "wanted 1 at least: of pixel values of 0-255"),
        ("--model m --input-mean 1,2", r"--input-mean: got \[1.0, 2.0\], wanted one number"),
        ("--model m --input-mean nan", r"--input-mean: got \[nan\], wanted one number"),
        ("--model m --input-layout CHW", "--input-layout: got 'CHW', wanted NHWC or NCHW"),
        ("--model m --scores logits", "--scores: got 'logits', wanted as-is or softmax"),
        ("--graph g.pb --labels l --input-mean x", "--input-mean: got 'x'"),
        ("--model m --format x", "--format: got 'x', wanted one of graph, savedmodel"),
        ("--device gpu", "device: got 'gpu', wanted cpu or cuda:N"),
        ("--gpu-memory-fraction 2", "--gpu-memory-fraction: got '2', wanted a number above 0"),
        ("--gpu-memory-growth yes", "--gpu-memory-growth: got 'yes', wanted on or off"),
        ("--runs 0", "--runs: got '0'"),
        ("--operator-threads 1", "--operator-threads and --runs go together"),
        ("--graph g.pb --labels l --runs 2", "--operator-threads and --runs go together"),
        ("--max-queue-delay x", "--max-queue-delay: got 'x'"),
        ("--allowed-batch-sizes 1,0", "--allowed-batch-sizes: got '1,0'"),
        ("--allowed-batch-sizes 1,", "--allowed-batch-sizes: got '1,'"),
        ("--max-queue-bytes 0", "--max-queue-bytes: got '0'"),
        ("--port 70000", "0-65535"),
        ("--port x", "0-65535"),
        ("--max-upload 0", "--max-upload: got '0'"),
        ("--drain-timeout -1", "above 0"),
        ("--advertise http://x", "--advertise: got 'http://x'"),
        ("--registry https://x", "https is not spoken"),
        ("--log-format xml", "--log-format: got 'xml'"),
        ("--replicas 0", "--replicas: got '0'"),
        ("--replicas 2 --advertise a:1", "each replica has a port of its own"),
        ("--replicas 2 --advertise [::1]:1", "each replica has a port of its own"),
        ("--replicas 2 --replica-ports 65535", "makes 65535-65536"),
        ("--replicas 3 --replica-ports 8500", "without --port's 8501"),
        ("--models m --models ./m", "/m is named twice"),
        ("--runs 1 --graph g.pb --labels l", "--operator-threads and --runs go together"),
    ],
)
def test_bad_options_are_told(line: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parsed(line)


def test_help_teaches() -> None:
    text = Options().getUsage()
    assert "    curl -F data=@three.jpg http://127.0.0.1:8501/classify\n" in text
    assert "--graph=" in text


def test_grpc_has_its_usual_port_where_no_port_is_named() -> None:
    for line, ports in (
        ("", (8501, 8500)),
        ("--port 8501", (8501, None)),
        ("--grpc-port 0", (8501, 0)),
        ("--port 0 --grpc-port 9000", (0, 9000)),
    ):
        options = parsed(line)
        assert (options["port"], options["grpc-port"]) == ports
    with pytest.raises(UsageError, match="--grpc-port: got 'x', wanted a whole number 0-65535"):
        parsed("--grpc-port x")


def test_grpc_is_left_out_or_asked_for_where_its_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str) -> object:
        if name.startswith("google."):
            raise ModuleNotFoundError(name)
        return None if name == "grpc" else object()

    monkeypatch.setattr(program, "find_spec", find)
    usual = parsed("")
    check_grpc(usual)
    assert usual["grpc-port"] is None
    with pytest.raises(MissingExtra) as error:
        check_grpc(parsed("--grpc-port 0"))
    assert error.value.message == (
        "--grpc-port needs the extra 'grpc' (not found: grpc, google.protobuf); "
        "install it: pip install 'simple-ml-serving[grpc]'"
    )
