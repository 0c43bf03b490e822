"""Training at toy size: it learns, resumes exactly, and writes a whole checkpoint directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from exeunt.engine import load_exit_policy
from exeunt.export.families.ofa.checkpoint import load_model
from exeunt.train.scenes import recipe as recipe_module
from exeunt.train.scenes import search
from exeunt.train.scenes.data import load_captions, load_entailment
from exeunt.train.scenes.evaluation import CaptionTask, EntailmentTask
from exeunt.train.scenes.exits import ExitPlan, LaneRule
from exeunt.train.scenes.options import ScenesRecipe
from exeunt.train.scenes.recipe import train_scenes
from exeunt.train.scenes.stream import TrainStream
from exeunt.train.scenes.trainer import Trainer
from exeunt.train.scenes.words import EOS_ID, PAD_ID, word_ids

TINY = ScenesRecipe(
    threads=1,
    hidden=16,
    heads=2,
    ffn=16,
    encoder_layers=2,
    decoder_layers=2,
    stem_planes=(2, 2, 4),
    num_scenes=8,
    statements_a_scene=2,
    captions_a_scene=1,
    steps=8,
    warmup_steps=2,
    save_every_steps=4,
)


@pytest.fixture(scope="module")
def stream() -> TrainStream:
    return TrainStream(TINY.seed, TINY.num_scenes, TINY.statements_a_scene, TINY.captions_a_scene)


def made(stream: TrainStream, **changes: Any) -> Trainer:
    trainer = Trainer(TINY.model_copy(update=changes))
    trainer.begin(stream)
    return trainer


def weights_after(
    stream: TrainStream, steps: int, stop_at: int | None = None, path: Path | None = None
) -> dict[str, Tensor]:
    trainer = made(stream)
    while trainer.step < steps:
        if trainer.step == stop_at and path is not None:
            trainer.save(path)
            trainer = Trainer(TINY)
            trainer.load(path)
            stop_at = None
        trainer.train_step(stream.batch(trainer.step))
    return trainer.model.state_dict()


def test_a_resumed_run_gives_the_same_weights(stream: TrainStream, tmp_path: Path) -> None:
    whole = weights_after(stream, 5)
    parts = weights_after(stream, 5, 3, tmp_path / "state.pt")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_recipe_does_not_resume(stream: TrainStream, tmp_path: Path) -> None:
    made(stream).save(tmp_path / "state.pt")
    with pytest.raises(ValueError, match="written by another recipe"):
        Trainer(TINY.model_copy(update={"seed": 1})).load(tmp_path / "state.pt")


def test_a_batch_depends_on_its_step_alone(stream: TrainStream) -> None:
    first = stream.batch(70)
    stream.batch(5)
    again = stream.batch(70)
    for task in ("entailment", "captions"):
        for name, value in vars(getattr(first, task)).items():
            assert np.array_equal(value, getattr(getattr(again, task), name))
    assert np.array_equal(first.pixels, again.pixels)


def test_a_batch_s_rows_are_about_its_images(stream: TrainStream) -> None:
    batch = stream.batch(1)
    rows = batch.entailment
    assert set(rows.image) <= set(range(TINY.num_scenes))
    answers = {word_ids(word)[0] for word in ("yes", "no", "maybe")}
    assert set(rows.target[:, 0]) <= answers
    assert (rows.target[:, 1] == EOS_ID).all()
    assert (rows.previous[:, 0] == 0).all()
    assert np.array_equal(rows.previous[:, 1:], rows.target[:, :-1])
    assert batch.captions.num_tokens == (batch.captions.target != PAD_ID).sum()
    # The prompt is encoded once for all captions.
    assert batch.captions.source.shape[0] == 1


def test_shards_hold_every_row_once(stream: TrainStream) -> None:
    batch = stream.batch(0)
    shards = batch.shards(3)
    assert sum(len(shard.pixels) for shard in shards) == TINY.num_scenes
    for task in ("entailment", "captions"):
        whole = getattr(batch, task)
        parts = [getattr(shard, task) for shard in shards]
        assert sum(len(part.image) for part in parts) == len(whole.image)
        assert sum(part.num_tokens for part in parts) == whole.num_tokens
        texts = sorted(
            tuple(row[row != PAD_ID]) for part in parts for row in part.source[part.text]
        )
        assert texts == sorted(tuple(row[row != PAD_ID]) for row in whole.source[whole.text])


@pytest.mark.parametrize("decomposition", [True, False])
def test_sharding_does_not_change_the_loss(stream: TrainStream, decomposition: bool) -> None:
    changes = {"exit_draw_share": 0.0, "decomposition": decomposition}
    batch = stream.batch(0)
    one, two = made(stream, **changes), made(stream, threads=2, **changes)
    assert one.train_step(batch) == pytest.approx(two.train_step(batch), rel=1e-2)


@pytest.mark.parametrize(
    "changes", [{}, {"decomposition": False}, {"layer_wise_loss": False}], ids=str
)
def test_training_lowers_the_loss(stream: TrainStream, changes: dict[str, Any]) -> None:
    steps = 14
    trainer = made(stream, steps=steps, **changes)
    batch = stream.batch(0)
    losses = [trainer.train_step(batch) for _ in range(steps)]
    assert np.mean(losses[-3:]) < 0.85 * np.mean(losses[:3])


def test_without_layer_wise_loss_only_the_last_layer_is_read(stream: TrainStream) -> None:
    """The loss of the first decoder layer's own answer is no part of it."""
    both = made(stream, exit_draw_share=0.0, saturation_weight=0.0, aid_weight=0.0)
    last = made(
        stream,
        exit_draw_share=0.0,
        saturation_weight=0.0,
        aid_weight=0.0,
        layer_wise_loss=False,
    )
    batch = stream.batch(0)
    assert both.train_step(batch) != pytest.approx(last.train_step(batch), rel=1e-4)


def test_the_stem_s_statistics_stay(stream: TrainStream) -> None:
    trainer = made(stream)
    stem = trainer.model.encoder.embed_images
    before = {name: value.clone() for name, value in stem.named_buffers()}
    trainer.train_step(stream.batch(0))
    assert all(torch.equal(before[name], value) for name, value in stem.named_buffers())
    assert before["bn1.running_mean"].abs().sum() > 0


def test_train_scenes_writes_a_checkpoint_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "NUM_THRESHOLDS", 2)
    monkeypatch.setattr(recipe_module, "load_entailment", lambda _: load_entailment("test", 40))
    monkeypatch.setattr(recipe_module, "load_captions", lambda _: load_captions("test", 10))
    console = Console(file=(tmp_path / "log").open("w"), width=100)
    out = tmp_path / "out"
    train_scenes(out, TINY, console=console)
    assert {path.name for path in out.iterdir()} >= {
        *("config.json", "model.safetensors", "preprocessor.json", "tokenizer.json"),
        *("export.json", "exit_policy.yaml", "results.json", "training.json", "examples"),
    }
    results = json.loads((out / "results.json").read_text())
    assert set(results["cut"]["caption"]) >= {"full depth", "image at half", "decoder at half"}
    policy = load_exit_policy(out / "exit_policy.yaml")
    assert set(policy.tasks) == {"entailment", "caption"}
    assert set(policy.tasks["caption"]) == {"image", "text", "decoder"}
    shipped = load_model(out).state_dict()
    train_scenes(out, TINY, console=console)
    assert all(torch.equal(shipped[k], v) for k, v in load_model(out).state_dict().items())
    console.file.close()


@pytest.mark.parametrize("decomposition", [True, False])
def test_a_plan_that_never_leaves_is_full_depth(stream: TrainStream, decomposition: bool) -> None:
    model = made(stream, decomposition=decomposition).model
    entailment = EntailmentTask(model, load_entailment("test", 20), decomposition=decomposition)
    captions = CaptionTask(model, load_captions("test", 6), decomposition=decomposition)
    for task in (entailment, captions):
        assert task.run(ExitPlan()).layers.reduction == 0
        half = task.run(ExitPlan(decoder=LaneRule.fixed(1, TINY.decoder_layers)))
        assert half.layers.reduction == pytest.approx(0.25)
    lanes = captions.lane_scores("confidence")
    assert set(lanes) == ({"image", "text", "decoder"} if decomposition else {"image", "decoder"})
    assert lanes["decoder"].shape[0] == TINY.decoder_layers
