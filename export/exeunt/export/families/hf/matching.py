"""The lane that ends two: the similarity of an image's and a text's embedding, a single logit."""

import torch
from torch import Tensor, nn

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.export.families.hf.cutting import carried

IMAGE, TEXT, MATCH, SIMILARITY = "image", "text", "match", "similarity"


def match_lane(width: int) -> LaneSpec:
    """Return the lane: it joins `image` and `text`, has no layers and keeps both embeddings."""
    return LaneSpec(
        name=MATCH,
        join=(IMAGE, TEXT),
        state={"image_embed": carried(width), "text_embed": carried(width)},
        entry="match.join",
        final_head=SIMILARITY,
        classes=1,
    )


def unit(vectors: Tensor) -> Tensor:
    """Return f32[B, E] as vectors of length 1.

    By products, since ONNX Runtime's reductions add in an order that depends on the batch.
    """
    return vectors / _dot(vectors, vectors).sqrt()


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Return the dot products f32[B, 1] of two f32[B, E]."""
    return (one[:, None, :] @ other[:, :, None])[:, 0]


class Similarity(nn.Module):
    """The dot product of two embeddings, times e to the `logit_scale` where there is one."""

    def __init__(self, logit_scale: Tensor | None = None) -> None:
        super().__init__()
        self.scale = 1.0 if logit_scale is None else float(torch.exp(logit_scale.detach()))

    def forward(self, image_embed: Tensor, text_embed: Tensor) -> Tensor:
        """Return the logit f32[B, 1] of two f32[B, E]."""
        return self.scale * _dot(image_embed, text_embed)
