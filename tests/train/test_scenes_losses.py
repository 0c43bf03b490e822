"""Losses against their formulas, scores against known values, and the search for thresholds."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from exeunt.engine import load_exit_policy
from exeunt.engine.exit_policy.decay import DecaySpec
from exeunt.train.scenes.evaluation import Outcome
from exeunt.train.scenes.exit_draws import TokenDraw, draw_lane_exits
from exeunt.train.scenes.exits import NEVER, ExitPlan, LaneRule, LayersUsed, TokenRule
from exeunt.train.scenes.losses import cosines, layer_wise_task_loss, saturation_loss
from exeunt.train.scenes.recipe import write_exit_policy
from exeunt.train.scenes.report import plan_of, plan_record
from exeunt.train.scenes.scorers import score_captions
from exeunt.train.scenes.search import Point, best, candidates, lane_rules
from exeunt.train.scenes.words import PAD_ID


def test_the_layer_wise_loss_is_the_mean_of_the_layers_sums() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(2, 3, 7) for _ in range(4)]
    target = torch.tensor([[4, 5, 2], [6, 2, PAD_ID]])
    by_hand = [
        -sum(
            float(F.log_softmax(layer[row, step], dim=-1)[target[row, step]])
            for row, step in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
        )
        for layer in logits
    ]
    found = float(layer_wise_task_loss(logits, target))
    assert found == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_saturation_costs_nothing_where_nothing_changes() -> None:
    state = torch.randn(3, 4, 5)
    still = cosines([state, 2 * state, state])
    assert float(saturation_loss(still)) == pytest.approx(0, abs=1e-5)
    # One of two layers turns the state round: cosine -1, a loss of 1 for each row.
    turned = cosines([state, -state, -state])
    assert float(saturation_loss(turned)) == pytest.approx(3.0)
    assert float(saturation_loss(turned, torch.tensor([1.0, 0.0, 0.5]))) == pytest.approx(1.5)


def test_a_share_of_the_rows_leaves_by_cosine() -> None:
    rng = np.random.default_rng(0)
    similarity = torch.rand(4, 4000, generator=torch.Generator().manual_seed(0))
    exits = draw_lane_exits(rng, similarity, 0.5)
    assert 1 <= int(exits.min()) <= int(exits.max()) == 4
    assert (draw_lane_exits(rng, similarity, 0.0) == 4).all()
    assert (draw_lane_exits(rng, similarity[:1], 1.0) == 1).all()
    # All leave by one rule: whoever leaves at layer 1 has a larger cosine there than who stays.
    exits = draw_lane_exits(rng, similarity, 1.0)
    gone, stayed = similarity[0, exits == 1], similarity[0, exits > 1]
    assert len(gone)
    assert len(stayed)
    assert gone.min() > stayed.max()


def test_tokens_leave_by_their_layer_s_quantile() -> None:
    rng = np.random.default_rng(1)
    valid = torch.ones(2000, 5, dtype=torch.bool)
    valid[:, 4] = False
    draw = TokenDraw(rng, valid, 0.25)
    similarity = torch.rand(2000, 5, generator=torch.Generator().manual_seed(0))
    left = draw(similarity, torch.zeros_like(valid))
    assert not left[:, 4].any()
    rows = left.any(dim=1)
    assert 0.1 < float(rows.float().mean()) <= 0.3
    again = draw(similarity, left)
    assert not (again & left).any()
    assert not draw(similarity, torch.ones_like(valid)).any()


def test_caption_scores() -> None:
    references = [["a cat left of a dog", "a dog right of a cat"], ["two keys and a red hat"]]
    perfect = score_captions([texts[0] for texts in references], references)
    assert perfect.bleu4 == pytest.approx(100.0)
    worse = score_captions(["a cat left of a key", "two hats"], references)
    assert 0 <= worse.bleu4 < perfect.bleu4
    assert 0 < worse.cider < perfect.cider
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        score_captions(["a cat"], references)


def test_candidates_spread_over_the_layers() -> None:
    cosines = torch.rand(5, 2000, generator=torch.Generator().manual_seed(0))
    thresholds = candidates(cosines, 8)
    assert thresholds[-1] == NEVER
    means = [float(LaneRule(value).exits(cosines).double().mean()) for value in thresholds]
    assert means == sorted(means)
    assert means[0] < 1.1
    assert means[-1] == 5
    assert max(b - a for a, b in itertools.pairwise(means)) < 1.2


def test_rules_of_a_lane_differ_in_who_leaves_where() -> None:
    cosines = torch.rand(4, 300, generator=torch.Generator().manual_seed(1))
    rules = lane_rules(cosines, latest=True)
    exits = {rule.exits(cosines).numpy().tobytes() for rule in rules}
    assert len(exits) == len(rules)
    assert len(lane_rules(cosines, latest=False)) < len(rules)
    # Rows that are all alike have one exit a layer, however many thresholds are tried.
    assert len(lane_rules(cosines[:, :1].expand(-1, 50), latest=True)) <= 4


def test_the_exit_policy_says_what_the_plan_does(tmp_path: Path) -> None:
    decay = DecaySpec(schedule="mue", beta=0.9, tau=4.0)
    plan = ExitPlan(LaneRule(0.9, 2), LaneRule(), TokenRule(0.97, None, decay))
    write_exit_policy(tmp_path, {"caption": plan}, encoder_layers=4, decoder_layers=3)
    lanes = load_exit_policy(tmp_path / "exit_policy.yaml").tasks["caption"]
    image, text, decoder = (lanes[lane].any[0] for lane in ("image", "text", "decoder"))
    assert image.threshold == (0.9, -1.0, -1.0, -1.0)
    assert text.criterion == "never"
    assert decoder.threshold == 0.97
    assert decoder.options.decay == decay
    assert plan_of(json.loads(json.dumps(plan_record(plan)))) == plan


@dataclass(frozen=True)
class Made:
    """A plan's result with a given reduction: 1 - layers / 4."""

    kept: float
    layers: int
    point: Point = field(init=False)

    def __post_init__(self) -> None:
        layers = torch.tensor([self.layers])
        used = LayersUsed(layers, layers, layers, 4, 4)
        object.__setattr__(self, "point", Point(ExitPlan(), Outcome({}, used), self.kept))


def test_the_best_plan_saves_most_above_the_floor() -> None:
    points = [Made(1.0, 4).point, Made(0.995, 3).point, Made(0.992, 2).point, Made(0.8, 1).point]
    assert best(points, 0.99) is points[2]
    assert best(points, 0.5) is points[3]
    with pytest.raises(ValueError, match="no plan keeps"):
        best(points, 1.1)
