"""The model in training: gradients reach every part, and padding changes nothing."""

import pytest
import torch
from torch.nn import functional as F

from exeunt.export.families.ofa.config import PAD, OfaConfig
from exeunt.export.families.ofa.model import OfaModel
from exeunt.export.families.ofa.positions import RelativePositions
from tests.support.ofa import TINY


@pytest.fixture(scope="module")
def model() -> OfaModel:
    torch.manual_seed(1)
    return OfaModel(TINY).eval()


def batch(lengths: list[int], steps: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    rows, longest = len(lengths), max(lengths)
    images = torch.randn(rows, 3, TINY.image_size, TINY.image_size, generator=generator)
    tokens = torch.randint(4, TINY.vocab, (rows, longest), generator=generator)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    before = torch.randint(4, TINY.vocab, (rows, steps), generator=generator)
    return images, torch.where(mask == 1, tokens, PAD), mask, before


@pytest.mark.parametrize("relative", [False, True])
def test_layerwise_loss_trains_every_parameter(relative: bool) -> None:
    torch.manual_seed(1)
    model = OfaModel(TINY.model_copy(update={"image_relative_bias": relative}))
    inputs = batch([5, 8])
    exits = model(*inputs)
    assert len(exits) == TINY.decoder_layers
    loss = sum(F.cross_entropy(logits.flatten(0, 1), inputs[-1].flatten()) for logits in exits)
    assert isinstance(loss, torch.Tensor)
    torch.autograd.backward(loss)
    still = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    # Keys' biases add the same to every score of a softmax, so they only have rounding errors.
    still = {name for name in still if not name.endswith("k_proj.bias")}
    layers = range(TINY.encoder_layers)
    unused = {f"encoder.image_rel_pos_table_list.{layer}.weight" for layer in layers}
    assert still == (set() if relative else unused)


def test_a_row_among_padded_ones_is_the_row_alone(model: OfaModel) -> None:
    images, tokens, mask, before = batch([3, 8, 5])
    with torch.inference_mode():
        together = model(images, tokens, mask, before)
        for row, length in enumerate([3, 8, 5]):
            one = slice(row, row + 1)
            alone = model(images[one], tokens[one, :length], mask[one, :length], before[one])
            for many, single in zip(together, alone, strict=True):
                torch.testing.assert_close(many[one], single, atol=1e-5, rtol=0)


def test_the_padding_id_is_padding_without_a_mask(model: OfaModel) -> None:
    images, tokens, mask, before = batch([3, 8, 5])
    with torch.inference_mode():
        masked = model(images, tokens, mask, before)
        by_id = model(images, tokens, torch.ones_like(mask), before)
        zeros = model(images, tokens * mask, mask, before)
    for one, other, third in zip(masked, by_id, zeros, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_later_tokens_change_nothing_before_them(model: OfaModel) -> None:
    *inputs, before = batch([5, 8])
    changed = before.clone()
    changed[:, -1] = 4 + (before[:, -1] - 3) % 10
    with torch.inference_mode():
        for one, other in zip(model(*inputs, before), model(*inputs, changed), strict=True):
            assert torch.equal(one[:, :-1], other[:, :-1])
            assert not torch.equal(one[:, -1], other[:, -1])


@pytest.mark.parametrize("relative", [False, True])
def test_every_pair_finds_its_row(relative: bool) -> None:
    config = TINY.model_copy(update={"image_relative_bias": relative})
    layout = RelativePositions(config)
    side, text_rows = 2 * config.image_bucket_size - 1, 2 * config.token_bucket_size - 1
    tokens = torch.arange(text_rows)[:, None] + 1000.0
    patches = torch.arange(side**2 + 3)[:, None] + 5000.0
    table = layout.table(tokens, patches)
    assert table.shape == (layout.rows, 1)
    query, key = layout.text()
    found = table[query[:, None] - key[None, :], 0]
    assert found[0, 0] == 1000 + config.token_bucket_size - 1
    assert found[2, 1] == found[0, 0] + 1
    assert found[1, 2] == found[0, 0] - 1
    query, key = layout.image()
    found = table[query[:, None] - key[None, :], 0]
    if not relative:
        assert not found.any()
        return
    for one in range(config.image_tokens):
        for other in range(config.image_tokens):
            down = one // config.grid - other // config.grid + config.image_bucket_size - 1
            right = one % config.grid - other % config.grid + config.image_bucket_size - 1
            assert found[one, other] == 5000 + down * side + right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "not a multiple of 3 heads"),
        ({"image_size": 80}, "5 tokens a side, but image_bucket_size is 4"),
        ({"max_source_length": 9}, "max_source_length 9 is over"),
        ({"max_steps": 9}, "max_steps 9 is over"),
        ({"min_tokens": 5}, "min_tokens 5 leaves no room"),
    ],
)
def test_sizes_that_contradict_each_other(change: dict[str, int], message: str) -> None:
    config = OfaConfig(**{**TINY.model_dump(), **change})
    with pytest.raises(ValueError, match=message):
        OfaModel(config)
