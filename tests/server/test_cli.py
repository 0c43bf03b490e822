"""The command line: `--help`, `predict`, and how errors are shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exeunt.server.cli import main
from tests.server.test_process import TEXT, encoded_sample

COMMANDS = ["serve", "predict", "eval", "export", "inspect", "train", "bench"]
POLICY = """
exit_policy:
  version: 3
  tasks: {default: {joint: {any: [{criterion: entropy, threshold: 10.0, min_layer: 2}]}}}
"""


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def image(tmp_path: Path) -> str:
    file = tmp_path / "a.png"
    file.write_bytes(encoded_sample()[1])
    return str(file)


def test_help_lists_every_command(capsys: Any) -> None:
    assert _run("--help") == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize(
    "command", [*([name] for name in COMMANDS[:5]), ["train", "demo"], ["bench", "demo"]]
)
def test_every_command_has_examples(command: list[str], capsys: Any) -> None:
    assert _run(*command, "--help") == 0
    assert f"exeunt {' '.join(command)}" in capsys.readouterr().out


def test_version(capsys: Any) -> None:
    assert _run("--version") == 0
    assert capsys.readouterr().out.startswith("exeunt 0.")


def test_predict_shows_every_layer(image: str, tmp_path: Path, capsys: Any) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    arguments = ["predict", "--image", image, "--text", TEXT]
    assert _run(*arguments, "--exit-policy", str(policy)) == 0
    shown = capsys.readouterr().out
    assert "entropy*" in shown
    assert "-> 2" in shown
    assert "at layer 2 of" in shown
    assert _run(*arguments, "--exit-policy", "never", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_layer"] == answer["depth"]
    assert answer["label"] in answer["probabilities"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--text", ""], 1, "the text is empty"),
        (["--text", TEXT, "--image", "nothing.png"], 1, "cannot read the image nothing.png"),
        (["--text", TEXT, "--bundle", "nowhere"], 1, "nowhere is no directory"),
        (["--text", TEXT, "--exit-policy", "nothing.yaml"], 2, "cannot read the exit policy"),
        (["--text", TEXT, "--config", "nothing.yaml"], 2, "cannot read the configuration"),
        (["--txet", TEXT], 2, "No such option"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], status: int, says: str, image: str, capsys: Any
) -> None:
    given = arguments if "nothing.png" in arguments else [*arguments, "--image", image]
    assert _run("predict", *given) == status
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown
    assert status == 2 or len(shown.strip().splitlines()) == 1


def test_a_training_option_out_of_range_is_named(tmp_path: Path, capsys: Any) -> None:
    assert _run("train", "demo", "--out", str(tmp_path), "--tau", "0") == 2
    assert capsys.readouterr().err.startswith("error: --tau: Input should be greater than 0")


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXEUNT_DEBUG", "")
    with pytest.raises(Exception, match="nowhere is no directory"):
        main(["--debug", "predict", "--bundle", "nowhere"])


def test_starting_imports_nothing_heavy() -> None:
    code = (
        "import sys; from exeunt.server.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'fastapi', 'uvicorn', 'PIL', 'tokenizers', 'onnx'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
