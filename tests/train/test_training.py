"""Training at toy size: it learns, resumes exactly, and writes a whole checkpoint directory."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from exeunt.engine import load_exit_policy
from exeunt.export.families.demo import load_checkpoint
from exeunt.train.demo import recipe as recipe_module
from exeunt.train.demo.data import load_split
from exeunt.train.demo.options import DemoRecipe
from exeunt.train.demo.recipe import train_demo
from exeunt.train.demo.stream import TrainStream
from exeunt.train.demo.trainer import Trainer, run_exits, single_modes

TINY = DemoRecipe(
    threads=1,
    layers=2,
    hidden=16,
    heads=2,
    ffn=16,
    batch_size=32,
    joint_steps=6,
    msd_steps=4,
    warmup_steps=2,
    save_every_steps=4,
    cell_loss_layers=(1, 1, 2, 2),
)


@pytest.fixture(scope="module")
def stream() -> TrainStream:
    return TrainStream(TINY.seed, TINY.batch_size, TINY.question_share)


def weights_after(
    stream: TrainStream, steps: int, *, stop_at: int | None = None, path: Path | None = None
) -> dict[str, Tensor]:
    trainer = Trainer(TINY)
    while trainer.step < steps:
        if trainer.step == stop_at and path is not None:
            trainer.save(path)
            trainer = Trainer(TINY)
            trainer.load(path)
            stop_at = None
        trainer.train_step(stream.batch(trainer.step))
    return trainer.model.state_dict()


@pytest.mark.parametrize("stop_at", [3, 8])
def test_a_resumed_run_gives_the_same_weights(
    stream: TrainStream, tmp_path: Path, stop_at: int
) -> None:
    whole = weights_after(stream, 10)
    parts = weights_after(stream, 10, stop_at=stop_at, path=tmp_path / "state.pt")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_recipe_does_not_resume(tmp_path: Path) -> None:
    Trainer(TINY).save(tmp_path / "state.pt")
    other = Trainer(TINY.model_copy(update={"seed": 1}))
    with pytest.raises(ValueError, match="written by another recipe"):
        other.load(tmp_path / "state.pt")


def test_a_batch_depends_on_its_step_alone(stream: TrainStream) -> None:
    first = stream.batch(200)
    stream.batch(5)
    again = stream.batch(200)
    assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(first).items())


def test_shards_hold_every_row_once(stream: TrainStream) -> None:
    batch = stream.batch(0)
    shards = batch.shards(4)
    assert sum(len(shard.label) for shard in shards) == len(batch.label)
    lengths = [shard.ids.shape[1] for shard in shards]
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(np.concatenate([shard.label for shard in shards])) == sorted(batch.label)


def test_sharding_does_not_change_the_step(stream: TrainStream) -> None:
    batch = stream.batch(0)
    one, four = Trainer(TINY), Trainer(TINY.model_copy(update={"threads": 2}))
    assert one.train_step(batch) == pytest.approx(four.train_step(batch), rel=1e-2)


def test_training_lowers_the_loss(stream: TrainStream) -> None:
    steps = 40
    trainer = Trainer(TINY.model_copy(update={"joint_steps": steps, "msd_steps": 0}))
    losses = [trainer.train_step(stream.batch(step % 4)) for step in range(steps)]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_leaving_a_modality_out_is_masking_it() -> None:
    model = Trainer(TINY).model.eval()
    pixels = torch.rand(2, 3, 64, 64)
    ids = torch.tensor([[5, 6, 7], [5, 0, 0]])
    hidden, mask = model.embed(pixels, ids, (ids != 0).long())
    text, image = single_modes(model, hidden, mask)
    # Without a word [CLS] begins without their mean.
    silent, _ = model.embed(pixels, ids, torch.zeros_like(ids))
    first_word = 1 + model.config.image_tokens
    for mode, whole, hide in (
        (text, hidden, slice(1, first_word)),
        (image, silent, slice(first_word, None)),
    ):
        masked = mask.clone()
        masked[:, hide] = 0
        left_out, _ = run_exits(model, *mode)
        hidden_away, _ = run_exits(model, whole, masked)
        for a, b in zip(left_out, hidden_away, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_train_demo_writes_a_checkpoint_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = load_split("test")[::400]
    monkeypatch.setattr(recipe_module, "load_split", lambda _: few)
    console = Console(file=(tmp_path / "log").open("w"), width=100)
    train_demo(tmp_path / "out", TINY, console=console)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {
        *("config.json", "labels.json", "preprocessor.json", "tokenizer.json"),
        *("model.safetensors", "curves.json", "training.json", "exit_policy.yaml"),
    }
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert set(curves["stages"]) == {"joint", "msd"}
    policy = load_exit_policy(tmp_path / "out" / "exit_policy.yaml")
    rule = policy.tasks["default"]["joint"].any[0]
    assert rule.threshold == curves["stages"][curves["shipped_stage"]]["threshold"]
    shipped = load_checkpoint(tmp_path / "out").state_dict()
    train_demo(tmp_path / "out", TINY, console=console)
    assert all(
        torch.equal(shipped[k], v)
        for k, v in load_checkpoint(tmp_path / "out").state_dict().items()
    )
    console.file.close()
