"""Checkpoints by a name on the hub: from its cache, or an error that says what to do."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from exeunt.export.errors import ExportError
from exeunt.export.families.hf.hub import local_checkpoint

REVISION = "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which nothing can be downloaded to."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def keep(cache: Path, name: str, *files: str) -> Path:
    """Put a model into the cache as the hub's client lays it out; return its snapshot."""
    model = cache / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(REVISION)
    for file in files:
        (snapshot / file).write_text("{}")
    return snapshot


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_model_in_the_cache_needs_no_network(cache: Path, weights: str) -> None:
    snapshot = keep(cache, "org/model", "config.json", weights)
    assert local_checkpoint(Path("org/model")) == snapshot


def test_a_model_that_cannot_be_downloaded_says_how_to_bring_it(cache: Path) -> None:
    with pytest.raises(ExportError, match=r"hf download org/model --local-dir") as caught:
        local_checkpoint(Path("org/model"))
    assert "no directory here" in str(caught.value)


def test_a_model_without_weights_that_can_be_read_is_named(cache: Path) -> None:
    keep(cache, "org/flax", "config.json", "flax_model.msgpack")
    with pytest.raises(ExportError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        local_checkpoint(Path("org/flax"))


@pytest.mark.parametrize("path", ["org/model", "missing", "a/b/c", "/abs/path", "../up"])
def test_a_path_stays_what_it_is(cache: Path, path: str) -> None:
    if path == "org/model":
        (cache.parent / path).mkdir(parents=True)  # exists here: no name
    assert local_checkpoint(Path(path)) == Path(path)
