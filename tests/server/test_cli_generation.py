"""The command line on a bundle that generates."""

import json
from pathlib import Path
from typing import Any

import pytest

from exeunt.server.cli import main
from exeunt.train.scenes.data import load_captions, load_entailment


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    return shown.out


@pytest.fixture
def picture(tmp_path: Path) -> str:
    file = tmp_path / "scene.png"
    load_captions("test", 1)[0].image.save(file)
    return str(file)


def test_predict_generates_with_the_options_that_were_named(
    scenes_bundle: Path, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["predict", "--bundle", str(scenes_bundle), "--image", picture, "--task", "caption"]
    greedy = json.loads(run(capsys, *base, "--json"))
    assert greedy["text"] is not None
    assert greedy["text_score"] is None
    short = json.loads(run(capsys, *base, "--beams", "3", "--max-tokens", "4", "--json"))
    assert len(short["tokens"]) <= 4
    assert short["text_score"] < 0
    chosen = json.loads(run(capsys, *base, "--allowed", "a cat", "--allowed", "a dog", "--json"))
    assert chosen["label"] in ("a cat", "a dog")
    assert sum(chosen["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)
    assert "decoder" in run(capsys, *base)
    judged = [*base[:-1], "entailment", "--text", "there is a cat"]
    assert json.loads(run(capsys, *judged, "--json"))["label"] in ("yes", "maybe", "no")
    assert "decoder" in run(capsys, *judged)


def test_eval_judges_labels_and_texts(
    scenes_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[dict[str, Any]] = []
    for place, one in enumerate(load_entailment("test", 4)):
        one.image.save(tmp_path / f"e{place}.png")
        record = {"image": f"e{place}.png", "task": "entailment", "text": one.text}
        lines.append({**record, "label": one.answer})
    for place, scene in enumerate(load_captions("test", 4)):
        scene.image.save(tmp_path / f"c{place}.png")
        record = {"image": f"c{place}.png", "task": "caption"}
        lines.append({**record, "references": list(scene.references)})
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    base = ["eval", str(scenes_bundle), "--data", str(data)]
    found = json.loads(run(capsys, *base, "--exit-policy", "never", "--json"))
    assert set(found) >= {
        *("accuracy", "bleu4", "cider", "reduction", "reduction_entailment"),
        *("reduction_caption", "exits", "tasks"),
    }
    assert found["reduction"] == 0.0
    assert sum(found["exits"]["entailment"]["image"].values()) == 4
    assert "BLEU-4" in run(capsys, *base)
