"""The encoder of a training step: decomposed into lanes, or joint for the ablation."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exeunt.export.families.ofa.model import OfaModel
from exeunt.train.scenes.cell_heads import CellHeads
from exeunt.train.scenes.decoding import Source, make_source
from exeunt.train.scenes.exit_draws import draw_lane_exits
from exeunt.train.scenes.losses import cosines, saturation_loss
from exeunt.train.scenes.stream import Batch, TextRows
from exeunt.train.scenes.walk import image_lane, joint_lane, pixel_values, text_lane


class Encoding(Protocol):
    """What the objective asks of a shard's encoder."""

    def rows(self, rows: TextRows, rng: np.random.Generator) -> tuple[Source, Tensor]:
        """Return what the decoder reads of one task's rows, and their lanes' saturation loss.

        Exits are drawn; the loss is a sum over the rows.
        """
        ...

    def images(self, heads: CellHeads) -> tuple[Tensor, Tensor]:
        """Return the cells' loss, a mean, and the saturation loss of lanes that rows share."""
        ...


class LaneEncoding:
    """Image and text lanes with tied layers; an image is encoded once for all rows about it."""

    def __init__(self, model: OfaModel, shard: Batch, exit_draw_share: float) -> None:
        self._model = model
        self._shard = shard
        self._share = exit_draw_share
        self._image = image_lane(model, pixel_values(shard.pixels))
        self._image_cosines = cosines(self._image.states, self._image.mask)

    def rows(self, rows: TextRows, rng: np.random.Generator) -> tuple[Source, Tensor]:
        """Encode the texts; draw an exit for each image and each row's text."""
        text = text_lane(self._model, torch.from_numpy(rows.source))
        text_rows = torch.from_numpy(rows.text)
        images = torch.arange(len(self._shard.pixels))
        image_exits = draw_lane_exits(rng, self._image_cosines, self._share)
        text_cosines = cosines(text.states, text.mask)
        text_exits = draw_lane_exits(rng, text_cosines[:, text_rows], self._share)
        source = make_source(
            self._model,
            self._image.at(image_exits, images),
            torch.from_numpy(rows.image),
            text.at(text_exits, text_rows),
            text.mask[text_rows],
        )
        moved = saturation_loss(text_cosines) * len(text_rows) / len(rows.source)
        return source, moved

    def images(self, heads: CellHeads) -> tuple[Tensor, Tensor]:
        """Return the losses of the image lane."""
        return heads(self._image.states, self._shard.cells), saturation_loss(self._image_cosines)


class JointEncoding:
    """One lane over [image; text]: every row encodes its image anew."""

    def __init__(self, model: OfaModel, shard: Batch, exit_draw_share: float) -> None:
        self._model = model
        self._shard = shard
        self._share = exit_draw_share
        self._pixels = pixel_values(shard.pixels)
        self._patches: tuple[list[Tensor], NDArray[np.int64]] = [], np.zeros(0, dtype=np.int64)

    def rows(self, rows: TextRows, rng: np.random.Generator) -> tuple[Source, Tensor]:
        """Encode images and texts together; draw an exit for each row."""
        images = torch.from_numpy(rows.image)
        text = torch.from_numpy(rows.source[rows.text])
        lane = joint_lane(self._model, self._pixels, images, text)
        every = torch.arange(len(images))
        similarity = cosines(lane.states, lane.mask)
        left = lane.at(draw_lane_exits(rng, similarity, self._share), every)
        patches = self._model.config.image_tokens
        self._patches = [state[:, :patches] for state in lane.states], rows.image
        source = make_source(
            self._model, left[:, :patches], every, left[:, patches:], lane.mask[:, patches:]
        )
        return source, saturation_loss(similarity)

    def images(self, heads: CellHeads) -> tuple[Tensor, Tensor]:
        """Return the cells' loss in the rows encoded last; no lane is shared by rows."""
        states, images = self._patches
        return heads(states, self._shard.cells.take(images)), torch.zeros(())
