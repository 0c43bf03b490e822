"""`exeunt export` hands its options to the family."""

from pathlib import Path

import pytest

from exeunt.server.cli import main
from tests.export.families.uniter_reference import write_checkpoint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "vcr"), "--task 'vcr' needs a head"),
        (("--labels", "nowhere.txt"), "cannot read nowhere.txt"),
        (("--tokenizer", "nowhere.json"), "nowhere.json is missing"),
        (("--parity", "reinit-poolers", "--parity", "typo"), "no --parity 'typo'"),
        (("--family", "uniter-msd"), "--family uniter"),
    ],
)
def test_options_reach_the_family(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "source", "ve")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "source"), str(tmp_path / "out"), *options])
    assert ended.value.code
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
