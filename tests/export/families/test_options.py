"""What the user says beside a checkpoint: task, labels, tokenizer, official quirks."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from exeunt.export.errors import ExportError
from exeunt.export.families.options import (
    SourceOptions,
    check_options,
    check_parity,
    chosen_task,
    read_labels,
    tokenizer_file,
)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (SourceOptions(task="vqa"), "--task"),
        (SourceOptions(labels=Path("x")), "--labels"),
        (SourceOptions(tokenizer=Path("x")), "--tokenizer"),
        (SourceOptions(parity=("x",)), "--parity"),
    ],
)
def test_options_of_no_use_are_refused(options: SourceOptions, flag: str) -> None:
    with pytest.raises(ExportError, match=f"the family 'x' takes no {flag}"):
        check_options("x", options)
    check_options("x", options, takes=(flag.removeprefix("--"),))


def test_an_unknown_quirk_names_the_known_ones() -> None:
    known = {"double-token": "counts it twice"}
    check_parity("x", SourceOptions(parity=("double-token",)), known)
    with pytest.raises(ExportError, match="knows no --parity 'y'; it knows double-token: counts"):
        check_parity("x", SourceOptions(parity=("double-token", "y")), known)


def test_the_task_is_one_that_the_head_serves() -> None:
    assert chosen_task("x", SourceOptions(), ["ve", "vqa"]) == "ve"
    assert chosen_task("x", SourceOptions(task="vqa"), ["ve", "vqa"]) == "vqa"
    with pytest.raises(ExportError, match=r"--task 'nlvr2' needs a head .* its head serves ve"):
        chosen_task("x", SourceOptions(task="nlvr2"), ["ve", "vqa"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "yes\nno\nmaybe\n"),
        ("labels.json", '["yes", "no", "maybe"]'),
        ("ans2label.json", '{"no": 1, "yes": 0, "maybe": 2}'),
        ("label2ans.json", '{"0": "yes", "1": "no", "2": "maybe"}'),
    ],
)
def test_labels_in_the_formats_that_there_are(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert read_labels(SourceOptions(labels=file), 3) == ("yes", "no", "maybe")
    with pytest.raises(ExportError, match="has 3 labels, the checkpoint's head answers 4"):
        read_labels(SourceOptions(labels=file), 4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.json", '["a", 3]', "is not valid at 1"),
        ("labels.json", '{"a": 0, "b": 2}', "expected labels with the places from 0 to 1"),
        ("labels.json", "{", "is damaged"),
        ("labels.json", "3", "is not valid at its top"),
        ("labels.txt", "a\n\nb", "is not valid at 1"),
    ],
)
def test_labels_that_cannot_be_used(name: str, text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ExportError, match=message):
        read_labels(SourceOptions(labels=file), 2)


def test_labels_need_a_file(tmp_path: Path) -> None:
    assert read_labels(SourceOptions(), 3) == ()
    with pytest.raises(ExportError, match="cannot read"):
        read_labels(SourceOptions(labels=tmp_path / "labels.txt"), 3)
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExportError, match="is no text"):
        read_labels(SourceOptions(labels=tmp_path / "labels.txt"), 3)


def test_a_tokenizer_must_have_the_embeddings_words(tmp_path: Path) -> None:
    words = {f"w{place}": place for place in range(7)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(tmp_path / "tokenizer.json"))
    file = tmp_path / "tokenizer.json"
    for named in (tmp_path, file):
        assert tokenizer_file(SourceOptions(tokenizer=named), 7) == file
    assert tokenizer_file(SourceOptions(tokenizer=file), 9, spare=2) == file
    for rows in (6, 8):
        with pytest.raises(ExportError, match=f"has 7 words, the checkpoint embeds {rows}"):
            tokenizer_file(SourceOptions(tokenizer=file), rows)


def test_a_tokenizer_must_be_one(tmp_path: Path) -> None:
    assert tokenizer_file(SourceOptions(), 7) is None
    with pytest.raises(ExportError, match=r"tokenizer.json is missing"):
        tokenizer_file(SourceOptions(tokenizer=tmp_path), 7)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(ExportError, match="is no tokenizer"):
        tokenizer_file(SourceOptions(tokenizer=tmp_path), 7)
