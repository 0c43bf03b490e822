"""One training run's state: model, optimisers, step; and the two stages' steps."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.demo import DemoConfig, DemoModel
from exeunt.train.demo.losses import (
    DistillationWeights,
    exit_weights,
    joint_cross_entropy,
    multimodality_self_distillation,
)
from exeunt.train.demo.options import DemoRecipe
from exeunt.train.demo.questions import SHAPES
from exeunt.train.demo.stream import CELL_CLASSES, NO_CELL, Batch
from exeunt.train.demo.words import LABELS, MAX_TOKENS, PAD_ID, vocabulary
from exeunt.train.optimisers import ShardedOptimisers
from exeunt.train.run import CpuClock, read_state, write_state

STATE_FORMAT = 1
# Short texts are kept from being padded to the longest of the batch.
SHARDS_PER_THREAD = 4


def demo_config(recipe: DemoRecipe) -> DemoConfig:
    """Return the sizes of the model that a recipe trains."""
    return DemoConfig(
        hidden=recipe.hidden,
        layers=recipe.layers,
        heads=recipe.heads,
        ffn=recipe.ffn,
        max_tokens=MAX_TOKENS,
        vocab=len(vocabulary()),
        labels=len(LABELS),
    )


def pixel_values(pixels: NDArray[np.uint8]) -> Tensor:
    """Scale uint8[B, 64, 64, 3] to f32[B, 3, 64, 64] in [-1, 1], as `preprocessor.json` says."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def run_exits(model: DemoModel, hidden: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Walk all layers; return each exit's logits f32[B, C] and each layer's state."""
    logits, states = [], []
    for layer, head in zip(model.layers, model.heads, strict=True):
        hidden = layer(hidden, mask)
        states.append(hidden)
        logits.append(head(hidden).float())
    return logits, states


def single_modes(
    model: DemoModel, hidden: Tensor, mask: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the text-only and the image-only input.

    A masked token is seen by no other token, so leaving it out is the same as masking it, cheaper.
    The image's [CLS] begins without the mean of the words.

    Reference: UNITER-MSD, Eq. (10), (11)
    """
    first_word = 1 + model.config.image_tokens
    text = (
        torch.cat([hidden[:, :1], hidden[:, first_word:]], dim=1),
        torch.cat([mask[:, :1], mask[:, first_word:]], dim=1),
    )
    blank = model.cls.to(hidden.dtype).expand(len(hidden), -1, -1)
    image = torch.cat([blank, hidden[:, 1:first_word]], dim=1)
    return text, (image, mask[:, :first_word])


class Trainer:
    """Trains one demo model; everything that a resumed run needs is in its state."""

    def __init__(self, recipe: DemoRecipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model = DemoModel(demo_config(recipe))
        self.cell_heads = nn.ModuleList([nn.Linear(recipe.hidden, n) for n in CELL_CLASSES])
        self.shape_head = nn.Linear(recipe.hidden, len(SHAPES))
        self.step = 0
        self.clock = CpuClock()
        matrices = [p for p in self.model.layers.parameters() if p.ndim == 2]
        taken = {id(p) for p in matrices}
        modules = (self.model, self.cell_heads, self.shape_head)
        others = [p for module in modules for p in module.parameters() if id(p) not in taken]
        self._optimisers = ShardedOptimisers(
            matrices,
            others,
            threads=recipe.threads,
            matrix_lr=recipe.matrix_lr,
            other_lr=recipe.vector_lr,
            weight_decay=recipe.weight_decay,
        )
        self._weights = exit_weights(recipe.layers, recipe.exit_weight_power)

    @property
    def stage(self) -> str:
        """Name the stage of the next step: joint, msd or done."""
        if self.step < self.recipe.joint_steps:
            return "joint"
        return "msd" if self.step < self.recipe.joint_steps + self.recipe.msd_steps else "done"

    def train_step(self, batch: Batch) -> float:
        """Make one step of the current stage; return the loss."""
        self._set_rates()
        num_rows, known = len(batch.label), batch.known_cells()

        def loss_of(_: int, shard: Batch) -> Tensor:
            return self._loss(shard, len(shard.label) / num_rows, known)

        shards = batch.shards(SHARDS_PER_THREAD * self.recipe.threads)
        loss = self._optimisers.step(loss_of, shards)
        self.step += 1
        return loss

    def _loss(self, batch: Batch, share: float, known: tuple[int, ...]) -> Tensor:
        ids = torch.from_numpy(batch.ids)
        label = torch.from_numpy(batch.label)
        pixels = pixel_values(batch.pixels)
        hidden, mask = self.model.embed(pixels, ids, (ids != PAD_ID).long())
        logits, states = run_exits(self.model, hidden, mask)
        loss = joint_cross_entropy(logits, label, self._weights)
        if self.stage == "msd":
            return share * (loss + self._distillation(logits, hidden, mask))
        return share * loss + self._cell_loss(states, batch, known)

    def _distillation(self, logits: list[Tensor], hidden: Tensor, mask: Tensor) -> Tensor:
        recipe = self.recipe
        text, image = single_modes(self.model, hidden, mask)
        return multimodality_self_distillation(
            logits,
            run_exits(self.model, *text)[0],
            run_exits(self.model, *image)[0],
            DistillationWeights(
                recipe.lambda_joint, recipe.lambda_text, recipe.lambda_image, recipe.tau
            ),
        )

    def _cell_loss(self, states: list[Tensor], batch: Batch, known: tuple[int, ...]) -> Tensor:
        """Teach image tokens what their cell shows, its role, its place, and if it is a witness.

        In the pictures of questions their mean learns the shape instead.

        One label a sample is a weak signal for relations: without this they stay near chance for
        most of the budget. The heads of these losses are not part of the model, and the losses
        fade to 0 at `cell_loss_share` of stage 1.
        """
        recipe = self.recipe
        progress = self.step / (recipe.joint_steps * recipe.cell_loss_share)
        weight = recipe.cell_loss_weight * (1.0 - progress)
        total = states[0].new_zeros((), dtype=torch.float32)
        if weight <= 0:
            return total
        targets = (batch.cells, batch.roles, batch.places, batch.witnesses)
        last = 1 + self.model.config.image_tokens
        *known_cells, known_shapes = known
        for head, layer, target, count in zip(
            self.cell_heads, recipe.cell_loss_layers, targets, known_cells, strict=True
        ):
            # A shallower model of the same recipe learns at its last layer what comes later.
            named = head(states[min(layer, len(states)) - 1][:, 1:last]).float()
            wanted = torch.from_numpy(target).flatten()
            error = F.cross_entropy(
                named.flatten(0, 1), wanted, ignore_index=NO_CELL, reduction="sum"
            )
            total = total + error / count
        picture = states[recipe.cell_loss_layers[0] - 1][:, 1:last].mean(dim=1)
        shape_error = F.cross_entropy(
            self.shape_head(picture).float(),
            torch.from_numpy(batch.shape),
            ignore_index=NO_CELL,
            reduction="sum",
        )
        total = total + shape_error / known_shapes
        # The exits' losses are a sum over exits, so this one is scaled alike.
        return weight * len(states) * total

    def _set_rates(self) -> None:
        recipe = self.recipe
        if self.stage == "joint":
            scale = min(1.0, (self.step + 1) / recipe.warmup_steps)
            scale *= 1.0 - self.step / recipe.joint_steps
        else:
            into = self.step - recipe.joint_steps
            scale = recipe.msd_lr_scale * (1.0 - into / max(1, recipe.msd_steps))
        self._optimisers.set_rates(scale)

    def save(self, path: Path) -> None:
        """Write the state, replacing the file at once so that a stop never leaves half of it."""
        state = {
            "format": STATE_FORMAT,
            "recipe": self.recipe.model_dump(),
            "step": self.step,
            "cpu_s": self.clock.seconds,
            "model": self.model.state_dict(),
            "cell_heads": self.cell_heads.state_dict(),
            "shape_head": self.shape_head.state_dict(),
            "optimizers": self._optimisers.state_dicts(),
        }
        write_state(path, state)

    def load(self, path: Path) -> None:
        """Go on from a state file.

        Raises:
            ValueError: the file was written by another format or another recipe.
        """
        state = read_state(path, STATE_FORMAT, self.recipe.model_dump())
        self.step = state["step"]
        self.clock.before_s = state["cpu_s"]
        self.model.load_state_dict(state["model"])
        self.cell_heads.load_state_dict(state["cell_heads"])
        self.shape_head.load_state_dict(state["shape_head"])
        self._optimisers.load_state_dicts(state["optimizers"])
