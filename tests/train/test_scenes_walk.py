"""Our walks against the model's own forward, and generation against teacher forcing."""

import pytest
import torch
from torch import Tensor

from exeunt.export.families.ofa.model import OfaModel
from exeunt.train.scenes.decoding import Source, generate, make_source, teacher_forced
from exeunt.train.scenes.exits import LaneRule, LayersUsed
from exeunt.train.scenes.losses import cosine, cosines
from exeunt.train.scenes.options import ScenesRecipe
from exeunt.train.scenes.walk import LaneStates, image_lane, joint_lane, text_lane
from exeunt.train.scenes.words import BOS_ID, EOS_ID, PAD_ID, source_ids

TINY = ScenesRecipe(
    hidden=16, heads=2, ffn=16, encoder_layers=3, decoder_layers=3, stem_planes=(2, 2, 4)
)
TEXTS = ("there is a cat", "a cat is left of a dog and above an apple")


@pytest.fixture(scope="module")
def model() -> OfaModel:
    torch.manual_seed(0)
    made = OfaModel(TINY.model_config_of()).eval()
    for parameter in made.parameters():  # tables of positions begin at zero
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return made


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(2, 3, 64, 64)


def padded(texts: tuple[str, ...] = TEXTS) -> Tensor:
    rows = [torch.tensor(source_ids(text)) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD_ID)


def source_of(model: OfaModel, pixels: Tensor) -> Source:
    image, text = image_lane(model, pixels), text_lane(model, padded())
    rows = torch.tensor([1, 0])  # the first text is about the second image
    return make_source(model, image.states[-1], rows, text.states[-1], text.mask)


def test_walking_with_shared_images_is_the_model_s_forward(model: OfaModel, pixels: Tensor) -> None:
    previous = torch.tensor([[BOS_ID, 5, 6], [BOS_ID, 7, 8]])
    source = padded()
    with torch.no_grad():
        wanted = model(pixels[[1, 0]], source, torch.ones_like(source), previous)
        states, _ = teacher_forced(model, source_of(model, pixels), previous)
    for logits, state in zip(wanted, states[1:], strict=True):
        torch.testing.assert_close(model.decoder.logits(state), logits, rtol=1e-4, atol=1e-5)


def test_a_joint_encoder_has_no_relative_bias_across(model: OfaModel, pixels: Tensor) -> None:
    """With attention across hidden away by its positions alone, each modality is by itself."""
    source = padded()
    with torch.no_grad():
        joint = joint_lane(model, pixels, torch.tensor([0, 1]), source)
        alone = image_lane(model, pixels), text_lane(model, source)
        assert torch.equal(joint.states[0], torch.cat([lane.states[0] for lane in alone], dim=1))
        before = joint.states[-1].clone()
        assert not torch.allclose(before[:, :16], alone[0].states[-1], atol=1e-3)
        tables = [
            table.weight
            for table in model.encoder.token_rel_pos_table_list
            if isinstance(table, torch.nn.Embedding)
        ]
        kept = [table.clone() for table in tables]
        for table in tables:
            table.zero_()
        # The tables of text distances move the text; a pair across has no part in them, so with
        # one layer the image tokens stay.
        moved = joint_lane(model, pixels, torch.tensor([0, 1]), source)
        for table, weight in zip(tables, kept, strict=True):
            table.copy_(weight)
    assert torch.equal(moved.states[1][:, :16], joint.states[1][:, :16])
    assert not torch.equal(moved.states[1][:, 16:], joint.states[1][:, 16:])


def test_padding_does_not_change_a_text(model: OfaModel) -> None:
    with torch.no_grad():
        both, alone = text_lane(model, padded()), text_lane(model, padded(TEXTS[:1]))
    length = alone.mask.shape[1]
    torch.testing.assert_close(both.states[-1][:1, :length], alone.states[-1])
    torch.testing.assert_close(
        cosines(both.states, both.mask)[:, :1], cosines(alone.states, alone.mask)
    )


@pytest.mark.parametrize("threshold", [2.0, 0.8, 0.6])
def test_generation_is_teacher_forcing_with_states_held(
    model: OfaModel, pixels: Tensor, threshold: float
) -> None:
    rule = LaneRule.over(threshold, 3)
    with torch.no_grad():
        source = source_of(model, pixels)
        made = generate(model, source, lambda states: rule.exits(cosines(states)), 6)
        first = torch.full((2, 1), BOS_ID)
        previous = torch.cat([first, made.tokens[:, :-1]], dim=1)
        states, similarity = teacher_forced(
            model, source, previous, lambda cosines, _: cosines > threshold
        )
        logits = model.decoder.logits(states[-1])
    logits[..., [BOS_ID, PAD_ID]] = -torch.inf
    kept = made.exits > 0
    assert torch.equal(rule.exits(similarity.flatten(1)).view(2, -1)[kept], made.exits[kept])
    kept[:, -1] = False  # the last one is the end for certain
    assert torch.equal(logits.argmax(-1)[kept], made.tokens[kept])
    if threshold < 1:
        assert (made.exits[kept] < 3).any()
    else:
        assert (made.exits[kept] == 3).all()
    for row in made.tokens:
        assert EOS_ID in row.tolist()


def test_cosine_leaves_padding_out() -> None:
    before, after = torch.randn(2, 1, 4, 8)
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    wanted = torch.cosine_similarity(before[:, :2].flatten(1), after[:, :2].flatten(1))
    torch.testing.assert_close(cosine(before, after, mask), wanted)
    assert cosine(torch.zeros(1, 4, 8), after, mask).item() == 0


def test_reduction_is_equation_14() -> None:
    layers = LayersUsed(
        torch.tensor([1, 3]), torch.tensor([2, 2]), torch.tensor([1, 1, 4, 2]), 4, 4
    )
    assert layers.reduction == pytest.approx(1 - (2 / 4 + 2 / 4) / 2)


def test_states_at_are_each_row_s_own() -> None:
    states = [torch.full((2, 1, 1), float(layer)) for layer in range(4)]
    lane = LaneStates(states, torch.ones(2, 1))
    found = lane.at(torch.tensor([3, 0, 1]), torch.tensor([0, 1, 1]))
    assert found.flatten().tolist() == [3.0, 0.0, 1.0]
