"""ViLT's positions and its pairs of images, against what the official code does image by image."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from exeunt.export.families.hf.models.vilt import ViltConfig, ViltEmbeddings, ViltHead, ViltModel

PATCH, SIDE = 4, 5


def config(**changes: object) -> ViltConfig:
    return ViltConfig.model_validate(
        {
            "model_type": "vilt",
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 20,
            "modality_type_vocab_size": 3,
            "image_size": PATCH * SIDE,
            "patch_size": PATCH,
            **changes,
        }
    )


@pytest.fixture
def model() -> ViltModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = ViltModel(config(), images=2, classes=3, inner=16)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def images(grids: Sequence[tuple[int, int]], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return pixels and masks of images of so many patches, padded to the largest."""
    generator = torch.Generator().manual_seed(seed)
    height, width = (PATCH * max(grid[axis] for grid in grids) for axis in (0, 1))
    pixels = torch.randn(len(grids), 3, height, width, generator=generator)
    mask = torch.zeros(len(grids), height, width, dtype=torch.int64)
    for row, (rows, columns) in enumerate(grids):
        mask[row, : rows * PATCH, : columns * PATCH] = 1
    return pixels * mask[:, None], mask


GRIDS = ((5, 5), (1, 1), (3, 7), (8, 2), (4, 1))


@torch.no_grad()
def test_positions_are_interpolated_to_the_size_of_each_image(model: ViltModel) -> None:
    embeddings = model.vilt.embeddings
    assert isinstance(embeddings, ViltEmbeddings)
    pixels, mask = images(GRIDS)
    ids = torch.tensor([[1, 2, 3]]).expand(len(GRIDS), -1)
    hidden, valid = embeddings(ids, torch.ones_like(ids), pixels, mask)
    tokens = hidden[:, 4:].reshape(len(GRIDS), 8, 7, -1)
    patches = embeddings.patch_embeddings.projection(pixels)
    trained = embeddings.position_embeddings[:, 1:].transpose(1, 2).reshape(1, -1, SIDE, SIDE)
    types = embeddings.token_type_embeddings.weight
    for row, (height, width) in enumerate(GRIDS):
        own = F.interpolate(trained, (height, width), mode="bilinear", align_corners=True)[0]
        wanted = (patches[row, :, :height, :width] + own).permute(1, 2, 0) + types[1 + row % 2]
        torch.testing.assert_close(tokens[row, :height, :width], wanted, atol=1e-5, rtol=0)
        assert valid[row].sum() == 3 + 1 + height * width


@torch.no_grad()
def test_a_pair_is_answered_as_by_two_passes(model: ViltModel) -> None:
    pixels, mask = images(((5, 3), (2, 4), (1, 5), (5, 5)))  # two pairs
    words = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    said = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    together = run(model, words.repeat_interleave(2, 0), said.repeat_interleave(2, 0), pixels, mask)
    logits = ViltHead(model)(together.reshape(2, 2, *together.shape[1:]))
    for pair in range(2):
        pooled = []
        for image in range(2):
            row, length = 2 * pair + image, int(said[pair].sum())
            rows, columns = int(mask[row, :, 0].sum()), int(mask[row, 0].sum())
            own = pixels[row : row + 1, :, :rows, :columns], mask[row : row + 1, :rows, :columns]
            text = words[pair : pair + 1, :length], said[pair : pair + 1, :length]
            state = run(model, *text, *own, kind=1 + image)
            pooled.append(model.vilt.pooler(model.vilt.layernorm(state)))
        wanted = model.classifier(torch.cat(pooled, dim=1))
        torch.testing.assert_close(logits[pair : pair + 1], wanted, atol=1e-5, rtol=0)


def run(
    model: ViltModel, ids: Tensor, said: Tensor, pixels: Tensor, mask: Tensor, kind: int = 0
) -> Tensor:
    """Return the last states; `kind` is the type of a single image's tokens."""
    embeddings = model.vilt.embeddings
    hidden, valid = embeddings(ids, said, pixels, mask)
    if kind:  # a row alone is the first of a pair
        types = embeddings.token_type_embeddings.weight
        hidden[:, ids.shape[1] :] += types[kind] - types[1]
    for layer in model.layers:
        hidden = layer(hidden, valid)
    states: Tensor = hidden
    return states
