"""What a training step lowers: both tasks' layer-wise loss, saturation, and the cells' losses."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.ofa.model import OfaModel
from exeunt.train.demo.scenes import NUM_KINDS
from exeunt.train.scenes.cell_heads import CellHeads
from exeunt.train.scenes.decoding import teacher_forced
from exeunt.train.scenes.encoding import Encoding, JointEncoding, LaneEncoding
from exeunt.train.scenes.exit_draws import TokenDraw
from exeunt.train.scenes.lookup_heads import LookupHeads
from exeunt.train.scenes.losses import layer_wise_task_loss, saturation_loss
from exeunt.train.scenes.options import ScenesRecipe
from exeunt.train.scenes.stream import Batch, TextRows
from exeunt.train.scenes.words import PAD_ID


@dataclass(frozen=True)
class Sizes:
    """How many rows the whole batch holds, so that shards can take their share of a mean."""

    images: int
    statements: int
    captions: int

    @classmethod
    def of(cls, batch: Batch) -> "Sizes":
        """Count a batch's rows."""
        return cls(len(batch.pixels), len(batch.entailment.image), len(batch.captions.image))


class Heads(nn.Module):
    """The heads of the auxiliary losses."""

    def __init__(self, recipe: ScenesRecipe) -> None:
        super().__init__()
        self.cells = CellHeads(recipe.hidden, recipe.encoder_layers)
        self.lookups = LookupHeads(recipe.hidden, recipe.decoder_layers)
        self.denoted = nn.Linear(recipe.hidden, NUM_KINDS)


class Objective:
    """The loss of one shard of a batch; the shards' losses add up to the batch's."""

    def __init__(self, recipe: ScenesRecipe, model: OfaModel, heads: Heads) -> None:
        self._recipe = recipe
        self._model = model
        self._heads = heads

    def __call__(self, shard: Batch, sizes: Sizes, aid: float, rng: np.random.Generator) -> Tensor:
        """Return the shard's part of the loss.

        Args:
            shard: some of the batch's images with all that is said of them.
            sizes: of the whole batch.
            aid: weight of the auxiliary losses at this step.
            rng: draws the exits.
        """
        recipe = self._recipe
        kind = LaneEncoding if recipe.decomposition else JointEncoding
        encoding: Encoding = kind(self._model, shard, recipe.exit_draw_share)
        terms = []
        for rows, weight, targets in (
            (shard.entailment, 1.0 / max(1, sizes.statements), shard if aid else None),
            (shard.captions, recipe.caption_weight / max(1, sizes.captions), None),
        ):
            if len(rows.image):
                terms.append(weight * self._task(encoding, rows, targets, aid, rng))
        share = 1.0 / sizes.images
        if aid or recipe.saturation_weight:
            cells, moved = encoding.images(self._heads.cells)
            terms.append(share * recipe.saturation_weight * moved)
            terms.append(share * len(shard.pixels) * aid * cells)
        return torch.stack(terms).sum()

    def _task(
        self,
        encoding: Encoding,
        rows: TextRows,
        targets: Batch | None,
        aid: float,
        rng: np.random.Generator,
    ) -> Tensor:
        """Return the loss of one task, summed over its rows; of entailment with its aids."""
        recipe, model = self._recipe, self._model
        source, moved = encoding.rows(rows, rng)
        target = torch.from_numpy(rows.target)
        share = recipe.exit_draw_share
        leaves = TokenDraw(rng, target != PAD_ID, share) if share else None
        previous = torch.from_numpy(rows.previous)
        states, similarity = teacher_forced(model, source, previous, leaves)
        learning = states[1:] if recipe.layer_wise_loss else states[-1:]
        loss = layer_wise_task_loss([model.decoder.logits(s) for s in learning], target)
        # Each token is a row of its own; those of a text share its weight.
        valid = (target != PAD_ID).float()
        weight = (valid / valid.sum(dim=1, keepdim=True)).flatten()
        loss = loss + recipe.saturation_weight * (
            moved + saturation_loss(similarity.flatten(1), weight)
        )
        if targets is not None:
            image = source.image.index_select(0, source.image_rows)
            lookups = self._heads.lookups(states, image, torch.from_numpy(targets.lookups))
            denoted = F.cross_entropy(
                self._heads.denoted(source.text).float().flatten(0, 1),
                torch.from_numpy(targets.denoted).flatten(),
                ignore_index=-1,
                reduction="sum",
            )
            loss = loss + aid * (lookups + denoted)
        return loss
