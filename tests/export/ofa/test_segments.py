"""The segments, with many samples in a batch, decide and answer as each sample alone."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exeunt.export.families.ofa.config import BOS, EOS
from exeunt.export.families.ofa.family import OfaFamily
from exeunt.export.plan import BundlePlan, SegmentPlan
from tests.support.ofa import GOLDENS, MAX_LEN, Arrays
from tests.support.ofa_batched import Decoder, RunSegment, Segments, walk_encoder
from tests.support.ofa_sequential import FILLS, NEVER, greedy, mue_threshold


def in_torch(segment: SegmentPlan, inputs: dict[str, Any]) -> Mapping[str, Any]:
    with torch.inference_mode():
        found = segment.module(*(torch.from_numpy(inputs[p.name]) for p in segment.inputs))
    outputs = found if isinstance(found, tuple) else (found,)
    return {p.name: t.numpy() for p, t in zip(segment.outputs, outputs, strict=True)}


def check_lanes(
    segments: Segments, raw: Arrays, expected: Arrays, suffix: str, thresholds: list[float]
) -> dict[str, Any]:
    """Return what the decoder joins, after checking the exits and states of both lanes."""
    joined: dict[str, Any] = {}
    for place, (lane, threshold) in enumerate(zip(("image", "text"), thresholds, strict=True)):
        states, exits = walk_encoder(segments, segments.lanes[lane], raw, threshold)
        if suffix:
            np.testing.assert_array_equal(exits, expected[f"enc_exit_img_txt{suffix}"][:, place])
        joined |= {f"{lane}.{state}": array for state, array in states.items()}
    context = segments("enc.norm", joined)["context"]
    for row, length in enumerate(raw["attention_mask"].sum(1) + joined["image.mask"].shape[1]):
        wanted = expected[f"encoder_out{suffix}"][row, :length]
        np.testing.assert_allclose(context[row, :length], wanted, atol=1e-4)
    return joined


def check_decoder(
    decoder: Decoder, expected: Arrays, suffix: str, threshold: Callable[[int], float]
) -> None:
    """Decode all rows, each a step behind the one before."""
    rows = expected["dec_tokens"].shape[0]
    tokens: list[list[int]] = [[] for _ in range(rows)]
    exits: list[list[int]] = [[] for _ in range(rows)]
    started = 0
    while started < rows or any(made[-1] != EOS for made in tokens):
        started = min(started + 1, rows)
        running = np.array([row for row in range(started) if EOS not in tokens[row]])
        last = np.array([tokens[row][-1] if tokens[row] else BOS for row in running])
        steps = np.array([len(tokens[row]) for row in running])
        logits, left = decoder.step(running, last, steps, threshold)
        for place, row in enumerate(running):
            step = len(tokens[row])
            tokens[row].append(greedy(torch.from_numpy(logits[place]), step, MAX_LEN))
            exits[row].append(int(left[place]))
    for row in range(rows):
        wanted = expected[f"dec_tokens{suffix}"][row]
        count = int((wanted >= 0).sum())
        assert tokens[row] == wanted[:count].tolist()
        assert exits[row] == expected[f"dec_exit{suffix}"][row, :count].tolist()


def check_all(plan: BundlePlan, run: RunSegment, raw: Arrays, expected: Arrays) -> None:
    segments = Segments(plan, run)
    joined = check_lanes(segments, raw, expected, "", [NEVER, NEVER])
    check_decoder(Decoder(segments, joined, "propagate"), expected, "", lambda step: NEVER)
    for place, (*lanes, last) in enumerate(expected["thresholds_img_txt_dec"].tolist()):
        at = f"_t{place + 1}"
        joined = check_lanes(segments, raw, expected, at, lanes)
        threshold = partial(mue_threshold, threshold=last, max_len=MAX_LEN)
        for variant, how in FILLS.items():
            check_decoder(Decoder(segments, joined, how), expected, f"{at}{variant}", threshold)


def test_modules_in_batches(plan: BundlePlan, raw: Arrays, expected: Arrays) -> None:
    check_all(plan, in_torch, raw, expected)


def test_the_image_bias_can_be_mended(raw: Arrays, expected: Arrays, tmp_path: Path) -> None:
    (tmp_path / "model.pt").symlink_to(GOLDENS / "checkpoint_mue.pt")
    (tmp_path / "export.json").write_text('{"image_relative_bias": true}')
    segments = Segments(OfaFamily().describe(tmp_path), in_torch)
    states, _ = walk_encoder(segments, segments.lanes["image"], raw, NEVER)
    wanted = expected["enc_hidden_img_relposfix"][:, -1]
    np.testing.assert_allclose(states["hidden"], wanted, atol=1e-4)
