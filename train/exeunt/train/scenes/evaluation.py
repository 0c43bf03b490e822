"""Score a model on both tasks under exit rules, with torch, every row deciding for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from exeunt.export.families.ofa.model import OfaModel
from exeunt.train.scenes.data import CaptionSample, EntailmentSample
from exeunt.train.scenes.decoding import Source, generate, make_source, teacher_forced
from exeunt.train.scenes.exits import ExitPlan, LayersUsed, Measure
from exeunt.train.scenes.losses import cosines
from exeunt.train.scenes.scorers import score_captions
from exeunt.train.scenes.stream import pad_ids
from exeunt.train.scenes.walk import LaneStates, image_lane, joint_lane, pixel_values, text_lane
from exeunt.train.scenes.words import (
    ANSWERS,
    BOS_ID,
    MAX_TARGET_TOKENS,
    PAD_ID,
    source_ids,
    text_of,
    vocabulary,
    word_ids,
)

_BATCH = 128
_KEPT = 8  # decoded corpora, of a few hundred kilobytes


LaneName = Literal["image", "text", "decoder"]


@dataclass(frozen=True)
class Outcome:
    """What one plan gave on one task."""

    quality: Mapping[str, float]  # by metric, in percent
    layers: LayersUsed


@dataclass(frozen=True)
class _Lane:
    lane: LaneStates
    cosines: Tensor  # f32[L, B]


class EncodedTask:
    """A task's samples after both lanes, with every layer kept; plans choose among the layers."""

    def __init__(
        self,
        model: OfaModel,
        samples: Sequence[EntailmentSample] | Sequence[CaptionSample],
        *,
        decomposition: bool = True,
    ) -> None:
        self.model = model.eval()
        self.decomposition = decomposition
        images = np.stack([np.asarray(sample.image) for sample in samples])
        source = torch.from_numpy(pad_ids([source_ids(sample.text) for sample in samples]))
        rows = torch.split(torch.arange(len(samples)), _BATCH)
        with torch.inference_mode():
            if decomposition:
                self._image = _gather(
                    [image_lane(model, pixel_values(images[part.numpy()])) for part in rows]
                )
                self._text = _gather([text_lane(model, source[part]) for part in rows])
            else:
                self._image = self._text = _gather(
                    [
                        joint_lane(
                            model,
                            pixel_values(images[part.numpy()]),
                            torch.arange(len(part)),
                            source[part],
                        )
                        for part in rows
                    ]
                )

    def lane_cosines(self) -> dict[LaneName, Tensor]:
        """Return the cosines f32[L, B] of the lanes; without decomposition "image" is the joint."""
        if not self.decomposition:
            return {"image": self._image.cosines}
        return {"image": self._image.cosines, "text": self._text.cosines}

    def exits(self, plan: ExitPlan) -> tuple[Tensor, Tensor]:
        """Return the layers i64[B] at which images and texts leave."""
        image = plan.image.exits(self._image.cosines)
        return image, plan.text.exits(self._text.cosines) if self.decomposition else image

    def source(self, image_exits: Tensor, text_exits: Tensor) -> Source:
        """Return what the decoder reads."""
        every = torch.arange(len(image_exits))
        image = self._image.lane.at(image_exits, every)
        text = self._text.lane.at(text_exits, every)
        mask = self._text.lane.mask
        if not self.decomposition:
            patches = self.model.config.image_tokens
            image, text, mask = image[:, :patches], text[:, patches:], mask[:, patches:]
        return make_source(self.model, image, every, text, mask)

    def used(self, image: Tensor, text: Tensor, tokens: Tensor) -> LayersUsed:
        """Return the layers with the depths that they are counted against."""
        config = self.model.config
        return LayersUsed(image, text, tokens, config.encoder_layers, config.decoder_layers)


def _gather(parts: Sequence[LaneStates]) -> _Lane:
    states = [torch.cat(layer) for layer in zip(*(part.states for part in parts), strict=True)]
    lane = LaneStates(states, torch.cat([part.mask for part in parts]))
    return _Lane(lane, cosines(lane.states, lane.mask))


@dataclass(frozen=True)
class Decoded:
    """What the decoder's layers say of B statements, each f32 or bool[L, B]."""

    similarity: Tensor  # the cosine of a layer's state with the one before
    confidence: Tensor
    right: Tensor  # whether its answer is

    def scores(self, measure: Measure) -> Tensor:
        """Return one of the measures."""
        return self.similarity if measure == "cosine" else self.confidence


def confidence(logits: Tensor) -> Tensor:
    """Return the largest softmax probability f32[...] of logits f32[..., V].

    Reference: CALM, section 3.5
    """
    return logits.float().softmax(dim=-1).amax(dim=-1)


class EntailmentTask:
    """Statements: one decoder step, and the likeliest of the three answers."""

    metrics = ("accuracy",)

    def __init__(
        self, model: OfaModel, samples: Sequence[EntailmentSample], *, decomposition: bool = True
    ) -> None:
        self.encoded = EncodedTask(model, samples, decomposition=decomposition)
        self.kinds = np.array([sample.kind for sample in samples])
        self._label = torch.tensor([ANSWERS.index(sample.answer) for sample in samples])
        self._answer_ids = torch.tensor([vocabulary()[answer] for answer in ANSWERS])
        self._decoded: dict[bytes, Decoded] = {}

    def decoded(self, image_exits: Tensor, text_exits: Tensor) -> Decoded:
        """Return what the decoder's layers say of each row.

        Those of the exits asked for last are kept: plans often differ in the decoder alone.
        """
        key = image_exits.numpy().tobytes() + text_exits.numpy().tobytes()
        if key not in self._decoded:
            if len(self._decoded) >= _KEPT:
                self._decoded.pop(next(iter(self._decoded)))
            self._decoded[key] = self._decode(image_exits, text_exits)
        return self._decoded[key]

    def _decode(self, image_exits: Tensor, text_exits: Tensor) -> Decoded:
        encoded = self.encoded
        with torch.inference_mode():
            source = encoded.source(image_exits, text_exits)
            first = torch.full((len(image_exits), 1), BOS_ID)
            states, similarity = teacher_forced(encoded.model, source, first)
            logits = encoded.model.decoder.logits(torch.stack(states[1:])[:, :, 0])
        right = logits[..., self._answer_ids].argmax(dim=-1) == self._label
        return Decoded(similarity[:, :, 0], confidence(logits), right)

    def lane_scores(self, measure: Measure) -> dict[LaneName, Tensor]:
        """Return the scores f32[L, B] of each lane at full depth; the encoder's are cosines."""
        decoded = self.decoded(*self.encoded.exits(ExitPlan()))
        return {**self.encoded.lane_cosines(), "decoder": decoded.scores(measure)}

    def run(self, plan: ExitPlan) -> Outcome:
        """Answer all statements under a plan; accuracy is also given by kind."""
        image, text = self.encoded.exits(plan)
        decoded = self.decoded(image, text)
        exits = plan.decoder.exits(decoded.scores(plan.decoder.measure))
        chosen = decoded.right[exits - 1, torch.arange(len(exits))].numpy()
        quality = {"accuracy": 100 * float(chosen.mean())}
        for kind in sorted(set(self.kinds)):
            quality[f"accuracy/{kind}"] = 100 * float(chosen[self.kinds == kind].mean())
        return Outcome(quality, self.encoded.used(image, text, exits))


class CaptionTask:
    """Captions, generated greedily, against their references."""

    metrics = ("bleu4", "cider")

    def __init__(
        self, model: OfaModel, samples: Sequence[CaptionSample], *, decomposition: bool = True
    ) -> None:
        self.encoded = EncodedTask(model, samples, decomposition=decomposition)
        self._references = [sample.references for sample in samples]
        self.texts: list[str] = []  # those of the last run

    def run(self, plan: ExitPlan) -> Outcome:
        """Caption all images under a plan."""
        image, text = self.encoded.exits(plan)
        with torch.inference_mode():
            source = self.encoded.source(image, text)
            made = generate(
                self.encoded.model,
                source,
                lambda states: plan.decoder.exits(self._scores(states, plan.decoder.measure)),
                MAX_TARGET_TOKENS,
            )
        self.texts = [text_of(row) for row in made.tokens.tolist()]
        scores = score_captions(self.texts, self._references)
        quality = {"bleu4": scores.bleu4, "cider": scores.cider}
        return Outcome(quality, self.encoded.used(image, text, made.exits[made.exits > 0]))

    def _scores(self, states: list[Tensor], measure: Measure) -> Tensor:
        """Return the decoder's scores f32[L, R] of states f32[R, S, D]; all S of a row in one."""
        if measure == "cosine":
            return cosines(states)
        return confidence(self.encoded.model.decoder.logits(torch.stack(states[1:])[:, :, 0]))

    def lane_scores(self, measure: Measure) -> dict[LaneName, Tensor]:
        """Return each lane's scores f32[L, B] at full depth; the decoder's are of all tokens."""
        self.run(ExitPlan())
        ids = [word_ids(text) for text in self.texts]
        previous = torch.from_numpy(pad_ids([[BOS_ID, *row] for row in ids]))
        every = torch.full((len(ids),), self.encoded.model.config.encoder_layers)
        with torch.inference_mode():
            source = self.encoded.source(every, every)
            states, _ = teacher_forced(self.encoded.model, source, previous)
            said = previous != PAD_ID
            tokens = self._scores([state[said][:, None] for state in states], measure)
        return {**self.encoded.lane_cosines(), "decoder": tokens}


Task = EntailmentTask | CaptionTask
