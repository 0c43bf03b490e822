"""EfficientVLM's pruning: masks from their distributions, layers that lose heads and neurons."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from exeunt.export.families.registry import describe
from exeunt.export.families.xvlm.model import XvlmModel
from exeunt.export.families.xvlm.pruning import LayerMasks, Masks, hard_mask
from tests.export.families.test_xvlm import (
    FFN,
    HEADS,
    LAYERS,
    SIZE,
    random_model,
    write_checkpoint,
)


def test_a_hard_mask_drops_what_its_distribution_expects() -> None:
    # P(z > 0) of alpha = e^9, e^-9 and e^0 is 1, 0 and .832 (Louizos et al., Eq. 12).
    assert hard_mask(torch.tensor([9.0, -9.0, 9.0, -9.0])).tolist() == [True, False, True, False]
    assert hard_mask(torch.tensor([0.0] * 6)).sum() == 5
    assert hard_mask(torch.tensor([0.3, 0.1, 0.2, 0.4, 0.5, 0.6])).tolist().index(False) == 1
    assert not hard_mask(torch.full((3,), -20.0)).any()


def random_masks(seed: int) -> Masks:
    """Return masks of which some leave a layer no head, or no neuron."""
    generator = torch.Generator().manual_seed(seed)

    def some(size: int) -> Tensor:
        return torch.rand(size, generator=generator) < 0.6

    def layers(part: str, *, cross: bool) -> list[LayerMasks]:
        found = [
            LayerMasks(some(HEADS), some(FFN), some(HEADS) if cross else None)
            for _ in range(LAYERS[part])
        ]
        nobody, nothing = (torch.zeros(size, dtype=torch.bool) for size in (HEADS, FFN))
        found[-1] = LayerMasks(nobody, nothing, nobody if cross else None)
        return found

    return Masks(
        vision=layers("vision", cross=False),
        text=layers("text", cross=False),
        cross=layers("cross", cross=True),
        decoder=layers("decoder", cross=True),
    )


def mask_out(model: XvlmModel, masks: Masks) -> None:
    """Do what official code does: multiply what heads and neurons make, by 0 or 1."""

    def narrow(weight: Tensor, mask: Tensor, size: int) -> None:
        weight.data *= mask.repeat_interleave(size).float()

    for vit, mask in zip(model.vision_encoder.layers, masks.vision, strict=True):
        narrow(vit.get_parameter("self_attn.out_proj.weight"), mask.heads, 2 * SIZE)
        narrow(vit.mlp.fc2.weight, mask.neurons, 1)
    text = model.text_encoder
    berts = [*text.text_layers, *text.cross_layers, *model.text_decoder.layers]
    for bert, mask in zip(berts, [*masks.text, *masks.cross, *masks.decoder], strict=True):
        narrow(bert.get_parameter("attention.output.dense.weight"), mask.heads, SIZE)
        narrow(bert.get_parameter("output.dense.weight"), mask.neurons, 1)
        if mask.cross is not None:
            narrow(bert.get_parameter("crossattention.output.dense.weight"), mask.cross, SIZE)


@pytest.mark.parametrize("seed", range(3))
def test_a_pruned_model_is_smaller_and_answers_as_the_masked_one(seed: int, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "vqa")
    masks = random_masks(seed)
    pruned, masked = random_model(tmp_path, "vqa"), random_model(tmp_path, "vqa")
    pruned.prune(masks)
    mask_out(masked, masks)
    generator = torch.Generator().manual_seed(seed)
    raw = {
        "pixel_values": torch.randn(2, 3, 8, 8, generator=generator),
        "input_ids": torch.randint(120, (2, 5), generator=generator),
        "attention_mask": torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]),
    }
    tokens, mask = torch.tensor([[2, 7, 9]] * 2), raw["attention_mask"].float()
    states, logits = [], []
    with torch.no_grad():
        for model in (pruned, masked):
            states.append(model(raw, "vqa"))
            logits.append(model.text_decoder(tokens, states[-1], mask))
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-5)
    sizes = [sum(part.numel() for part in model.parameters()) for model in (pruned, masked)]
    assert sizes[0] < sizes[1]


def test_a_pruned_decoders_caches_are_alike(tmp_path: Path) -> None:
    plan = describe(write_checkpoint(tmp_path, "vqa", pruned=True))
    assert plan.family == "efficientvlm"
    decoder = plan.lanes[-1]
    assert {decoder.state[name].shape for cache in decoder.caches for name in cache.appended} == {
        (16, decoder.state["self_k_1"].shape[1])
    }
    assert len(decoder.propagate) == decoder.depth - 1
