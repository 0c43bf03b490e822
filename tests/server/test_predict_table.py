"""The tables of `exeunt predict` for a model that generates text."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from exeunt.engine import Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.server.cli.predict_table import layer_tables, summary
from tests.server.generating import LABELS, generating
from tests.server.serving import png


@pytest.mark.parametrize("task", ["tell", "judge"])
def test_a_decoder_is_shown_for_its_first_token(task: str, tmp_path: Path) -> None:
    sample = {"image": png(), "text": "what is in the image", "task": task}
    bundle = generating("ofa", tmp_path)
    with Engine.open(bundle, {"warm_up": False}, backend=FakeBackend()) as engine:
        answer = engine.predict(sample)
        tables = {str(table.title): table for table in layer_tables(engine, sample, answer)}
    assert set(tables) == {"lane image", "lane text", "lane decoder, first token"}
    (layers, *_) = tables["lane decoder, first token"].columns
    assert f"-> {answer.token_exit_layers[0]}" in list(layers.cells)
    out = io.StringIO()
    Console(file=out, width=200).print(summary(answer))
    shown = out.getvalue()
    assert (answer.label or answer.text or "nothing") in shown
    assert (answer.label in LABELS) == (task == "judge")


def test_a_text_is_no_markup(tmp_path: Path) -> None:
    sample = {"image": png(), "task": "caption", "allowed": ["[UNK]"]}
    with Engine.open(
        generating("ofa", tmp_path), {"warm_up": False}, backend=FakeBackend()
    ) as engine:
        answer = engine.predict(sample)
    out = io.StringIO()
    Console(file=out, width=200).print(summary(answer))
    assert "[UNK]" in out.getvalue()
