"""X-VLM and EfficientVLM beyond their goldens: pruning, several tasks, and what is refused."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from exeunt.engine import Engine
from exeunt.export.bundle import export_bundle
from exeunt.export.errors import ExportError
from exeunt.export.families.options import SourceOptions
from exeunt.export.families.registry import describe, nearest_family
from exeunt.export.families.xvlm.config import read_config
from exeunt.export.families.xvlm.model import XvlmModel
from exeunt.export.families.xvlm.pruning import LayerMasks, Masks, hard_mask

HEADS, FFN, SIZE = 3, 10, 4  # SIZE: of a head
LAYERS = {"vision": 2, "text": 1, "cross": 2, "decoder": 2}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "dog")
CONFIG = {
    "image_res": 8,
    "use_clip_vit": True,
    "vision_config": "configs/config_vision.json",  # official paths start at the code's root
    "text_config": "configs/config_text.json",
    "text_num_hidden_layers": LAYERS["text"] + LAYERS["cross"],
    "num_dec_layers": LAYERS["decoder"],
}
VISION = {
    "vision_width": 2 * HEADS * SIZE,
    "patch_size": 4,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS["vision"],
}
TEXT = {
    "vocab_size": 120,
    "hidden_size": HEADS * SIZE,
    "num_hidden_layers": 12,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "max_position_embeddings": 20,
    "fusion_layer": LAYERS["text"],
}
QUERY = "text_encoder.encoder.layer.1.crossattention.self.query.weight"


def write_checkpoint(source: Path, task: str, *, pruned: bool = False) -> Path:
    """Write a random checkpoint in half precision."""
    source.mkdir(exist_ok=True)
    for name, content in (("", CONFIG), ("_vision", VISION), ("_text", TEXT)):
        (source / f"config{name}.json").write_text(json.dumps(content))
    weights = {
        name: tensor.half() for name, tensor in random_model(source, task).state_dict().items()
    }
    weights["text_encoder.embeddings.position_ids"] = torch.arange(20)[None]
    weights["temp"] = torch.tensor(0.07)
    if pruned:
        images = 2 if task == "nlvr2" else 1
        parts = {**LAYERS, "cross": images * LAYERS["cross"]}
        for part, count in parts.items():
            if part == "decoder" and task != "vqa":
                continue
            rows = 2 * count if part in ("cross", "decoder") else count
            weights[f"l0_module.{part}_head_loga"] = torch.randn(rows, HEADS)
            weights[f"l0_module.{part}_int_loga"] = torch.randn(count, FFN)
    torch.save({"model": weights, "config": CONFIG, "epoch": 1}, source / "model_state_step_1.th")
    return source


def random_model(source: Path, task: str, seed: int = 3) -> XvlmModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = XvlmModel(read_config(source), task, 2, 5)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def write_tokenizer(file: Path, words: tuple[str, ...] = WORDS) -> Path:
    known = [*words, *(f"w{place}" for place in range(TEXT["vocab_size"] - len(words)))]
    tokenizer = Tokenizer(models.WordLevel(dict(zip(known, range(120), strict=True)), "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(file))
    return file


def edit(source: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    file = source / "model_state_step_1.th"
    content = torch.load(file, weights_only=True)
    change(content["model"])
    torch.save(content, file)


def configure(source: Path, name: str, **changes: object) -> None:
    file = source / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


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


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Both tasks of a checkpoint for retrieval, with a tokenizer."""
    directory = tmp_path_factory.mktemp("xvlm")
    source = write_checkpoint(directory / "source", "itm")
    options = SourceOptions(tokenizer=write_tokenizer(directory / "tokenizer.json"))
    export_bundle(source, directory / "out", options=options)
    with Engine.open(directory / "out", {"warm_up": False}) as engine:
        yield engine


def test_retrieval_answers_both_tasks_of_an_image_and_a_text(retrieval: Engine) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    sample: Mapping[str, object] = {"image": file.getvalue(), "text": "a red dog"}
    fits = retrieval.predict({**sample, "task": "itm"})
    similar = retrieval.predict({**sample, "task": "itc"})
    assert set(fits.lanes) == {"image", "text", "fusion"}, "the other task's lanes are not walked"
    assert set(similar.lanes) == {"image", "text", "match"}
    assert retrieval.manifest.tasks[0].labels == ("no match", "match")
    assert -1 <= similar.logits[0] <= 1


def test_nlvr2_answers_only_once_both_images_are_seen(tmp_path: Path) -> None:
    plan = describe(write_checkpoint(tmp_path, "nlvr2"))
    image, _, fusion = plan.lanes
    assert (image.rows, fusion.rows, fusion.depth) == (2, 1, 2 * LAYERS["cross"])
    assert list(fusion.heads) == [2, 4]
    assert plan.tasks[0].labels == ("False", "True")
    assert plan.inputs.image is None
    tokenizer = SourceOptions(tokenizer=write_tokenizer(tmp_path / "tokenizer.json"))
    taken = describe(tmp_path, options=tokenizer).inputs.image
    assert taken is not None
    assert (taken.count, taken.size) == (2, (8, 8))


def test_the_tokenizer_says_how_answers_begin_and_end(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "vqa")
    loop = describe(tmp_path).lanes[-1].loop
    assert loop is not None
    assert (loop.start, loop.eos, loop.pad) == (101, 102, 0)
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    loop = describe(tmp_path, options=SourceOptions(tokenizer=tokenizer)).lanes[-1].loop
    assert loop is not None
    assert (loop.start, loop.eos, loop.pad) == (2, 3, 0)
    write_tokenizer(tokenizer, WORDS[:2])
    with pytest.raises(ExportError, match=r"has no word '\[CLS\]'"):
        describe(tmp_path, options=SourceOptions(tokenizer=tokenizer))


MISFITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing key": (lambda c: edit(c, lambda w: w.pop(QUERY)), f"lacks '{QUERY}'"),
    "an extra key": (
        lambda c: edit(c, lambda w: w.update(bbox_head=torch.ones(2))),
        r"has 'bbox_head', \[2\], which is not expected",
    ),
    "no head": (
        lambda c: edit(c, lambda w: [w.pop(name) for name in list(w) if "cls_head" in name]),
        "no head of X-VLM's: expected one of text_decoder",
    ),
    "more layers": (
        lambda c: configure(c, "config.json", text_num_hidden_layers=5),
        r"lacks 'text_encoder\.encoder\.layer\.5\.",
    ),
    "no cross layers": (
        lambda c: configure(c, "config.json", text_num_hidden_layers=1),
        "fusion_layer 1 of 1 layers",
    ),
    "a wider vision encoder": (
        lambda c: configure(c, "config_vision.json", vision_width=30),
        r"class_embedding' has the shape \[24\], expected \[30\]",
    ),
    "heads that do not divide": (
        lambda c: configure(c, "config_text.json", num_attention_heads=5),
        "describes no model: hidden size 12 is not a multiple of 5 heads",
    ),
    "Swin": (lambda c: configure(c, "config.json", use_swin=True), "use_swin True"),
    "no text config": (lambda c: (c / "config_text.json").unlink(), "config_text.json is missing"),
    "no fusion layer": (
        lambda c: configure(c, "config_text.json", fusion_layer=None),
        "config_text.json is not valid at fusion_layer",
    ),
    "masks of another depth": (
        lambda c: edit(c, lambda w: w.update({"l0_module.text_int_loga": torch.ones(2, FFN)})),
        r"'l0_module.text_int_loga' has the shape \[2, 10\], expected \[1, 10\]",
    ),
    "masks that are no numbers": (
        lambda c: edit(c, lambda w: w["l0_module.cross_head_loga"].fill_(torch.nan)),
        "'l0_module.cross_head_loga' has numbers that are not finite",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_misfit_is_named(misfit: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "nlvr2", pruned=True)
    change, message = MISFITS[misfit]
    change(tmp_path)
    with pytest.raises(ExportError, match=message):
        describe(tmp_path)


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "vqa")
    with pytest.raises(ExportError, match=r"has no L0 masks.*--family xvlm\)"):
        describe(tmp_path, "efficientvlm")
    with pytest.raises(ExportError, match="'xvlm' knows no --parity 'intended-mask-rows'"):
        describe(tmp_path, options=SourceOptions(parity=("intended-mask-rows",)))
    with pytest.raises(ExportError, match="--task 'nlvr2' needs a head"):
        describe(tmp_path, options=SourceOptions(task="nlvr2"))
    (tmp_path / "labels.txt").write_text("yes\nno\n")
    with pytest.raises(ExportError, match="ranking a list of them is not supported"):
        describe(tmp_path, options=SourceOptions(labels=tmp_path / "labels.txt"))
    assert nearest_family(random_model(tmp_path, "vqa").state_dict()) == "xvlm"
