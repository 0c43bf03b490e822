"""Finding golden folders: copies and others, none skipped, and what each must be compared in."""

from pathlib import Path

import pytest

from tests.parity import test_goldens
from tests.support.goldens import COPIES, ELSEWHERE, golden_folders, read_golden


def test_copies_are_found_and_small() -> None:
    folders = {folder.name: folder.path for folder in golden_folders()}
    for copy in COPIES.iterdir():
        assert folders[copy.name] == copy
    size = sum(file.stat().st_size for file in COPIES.rglob("*") if file.is_file())
    assert size <= 12 * 2**20


def test_every_copy_compares_something_in_every_batch() -> None:
    for copy in COPIES.iterdir():
        for golden in read_golden(copy).values():
            assert {"batch"} < set(golden.quantities()), copy.name


def test_folders_elsewhere_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uniter_vqa", "another"):
        (tmp_path / name).mkdir()
    single = tmp_path / "another"
    (single / "expected.npz").touch()
    monkeypatch.setenv(ELSEWHERE, f"{tmp_path}:{single}")
    names = [folder.name for folder in golden_folders()]
    assert len(names) == len(set(names))
    assert names[-3:] == ["another", f"{tmp_path.name}/uniter_vqa", f"{tmp_path.name}/another"]


def test_a_place_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ELSEWHERE, "/nowhere")
    with pytest.raises(FileNotFoundError, match="EXEUNT_GOLDENS names /nowhere"):
        golden_folders()


def test_an_unknown_folder_is_a_test_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text("{}")
    monkeypatch.setenv(ELSEWHERE, str(tmp_path))
    cases = {case.id: case for case in test_goldens._cases()}
    folder, variant, quantity, error = cases["strange-readable"].values
    assert "not a checkpoint of a family" in str(error)
    with pytest.raises(type(error)):
        test_goldens.test_golden(folder, variant, quantity, error, test_goldens.Bundles(tmp_path))
