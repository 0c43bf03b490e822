"""`exeunt train scenes` on the command line: help, wrong options, a directory of another run."""

from pathlib import Path

import pytest

from exeunt.server.cli import main


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    return stopped.value.code


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "scenes", "--help") == 0
    shown = capsys.readouterr().out
    assert "exeunt train scenes --out checkpoints/scenes" in shown
    assert "--no-decomposition" in shown
    assert "--no-layer-wise-loss" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--exit-draw-share", "2"], "exit-draw-share"),
        (["--hidden", "30"], "hidden size 30 is not a multiple of 4 heads"),
    ],
)
def test_a_wrong_option_is_named(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "scenes", "--out", str(tmp_path), *options) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
