"""Losses against their formulas, scores against known values, and the search for thresholds."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from exeunt.engine import load_exit_policy
from exeunt.train.scenes.evaluation import LaneName, Outcome
from exeunt.train.scenes.exit_draws import TokenDraw, draw_lane_exits
from exeunt.train.scenes.exits import NEVER, ExitPlan, LaneRule, LayersUsed, Measure
from exeunt.train.scenes.losses import cosines, layer_wise_task_loss, saturation_loss
from exeunt.train.scenes.recipe import write_exit_policy
from exeunt.train.scenes.report import plan_of, plan_record
from exeunt.train.scenes.scorers import score_captions
from exeunt.train.scenes.search import NUM_THRESHOLDS, Point, best, candidates, search
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


def test_rules_leave_at_the_first_layer_over_its_threshold() -> None:
    cosines = torch.tensor([[0.5, 0.9, 0.1], [0.95, 0.2, 0.3], [0.0, 0.0, 0.99], [0.9, 0.9, 0.9]])
    assert LaneRule((0.8, 0.9, 0.9)).exits(cosines).tolist() == [2, 1, 3]
    assert LaneRule().exits(cosines).tolist() == [4, 4, 4]
    assert LaneRule.over(0.4, 4).exits(cosines).tolist() == [1, 1, 3]
    assert LaneRule.fixed(2, 4).exits(cosines).tolist() == [2, 2, 2]
    # The rule is strict.
    assert LaneRule((0.5, 0.99, 0.99)).exits(cosines).tolist() == [4, 1, 4]


def test_each_candidate_lets_more_rows_leave() -> None:
    cosines = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    thresholds = candidates(cosines)
    shares = [float((cosines > value).float().mean()) for value in thresholds]
    assert len(shares) == NUM_THRESHOLDS
    assert shares == pytest.approx(
        [(i + 1) / NUM_THRESHOLDS for i in range(NUM_THRESHOLDS)], abs=0.01
    )
    assert shares[-1] == 1.0
    assert len(candidates(torch.ones(50))) == 1


class Lanes:
    """A task whose rows need known layers; a row that leaves earlier is wrong."""

    metrics = ("accuracy",)

    def __init__(self, needs: dict[LaneName, Tensor], depth: int) -> None:
        self.needs = needs
        self.depth = depth
        self.runs = 0

    def lane_scores(self, measure: Measure) -> dict[LaneName, Tensor]:
        layers = torch.arange(1, self.depth + 1)[:, None]
        noise = torch.rand(self.depth, 300, generator=torch.Generator().manual_seed(0)) / 100
        return {lane: 0.5 + 0.4 * (layers >= need) + noise for lane, need in self.needs.items()}

    def run(self, plan: ExitPlan) -> Outcome:
        self.runs += 1
        exits = {
            lane: getattr(plan, lane).exits(found)
            for lane, found in self.lane_scores("cosine").items()
        }
        wrong = torch.stack([exits[lane] < need for lane, need in self.needs.items()]).any(dim=0)
        used = LayersUsed(exits["image"], exits["text"], exits["decoder"], self.depth, self.depth)
        return Outcome({"accuracy": 100 * float((~wrong).float().mean())}, used)


@pytest.mark.parametrize("by_layer", [True, False])
def test_the_search_finds_what_rows_do_not_need(by_layer: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    lanes: tuple[LaneName, ...] = ("image", "text", "decoder")
    needs = {lane: torch.randint(1, 4, (300,), generator=generator) for lane in lanes}
    task = Lanes(needs, depth=4)
    ideal = (
        1
        - float(
            torch.stack(list(needs.values())).float().mean(dim=1) @ torch.tensor([0.25, 0.25, 0.5])
        )
        / 4
    )
    path = search(task, 0.9, by_layer=by_layer)
    assert path[0].plan == ExitPlan()
    assert path[0].outcome.layers.reduction == 0
    reductions = [point.outcome.layers.reduction for point in path]
    assert reductions == sorted(reductions)
    assert min(point.kept for point in path) >= 0.9
    lossless = best(path, 1.0)
    assert lossless.outcome.layers.reduction > 0.7 * ideal
    assert lossless.outcome.layers.reduction <= ideal + 1e-6
    if not by_layer:
        assert all(len(set(r.thresholds)) <= 1 for p in path for r in vars(p.plan).values())
    assert task.runs < 120


def test_the_exit_policy_says_what_the_plan_does(tmp_path: Path) -> None:
    plan = ExitPlan(LaneRule((0.9, -1.0, -1.0)), LaneRule(), LaneRule((NEVER, 0.97), "confidence"))
    write_exit_policy(tmp_path, {"caption": plan}, encoder_layers=4, decoder_layers=3)
    lanes = load_exit_policy(tmp_path / "exit_policy.yaml").tasks["caption"]
    image, text, decoder = (lanes[lane].any[0] for lane in ("image", "text", "decoder"))
    assert image.threshold == (0.9, -1.0, -1.0, 1.0)
    assert text.criterion == "never"
    assert decoder.threshold == (1.0, 0.97, 1.0)
    assert (image.criterion, decoder.criterion) == ("cosine", "confidence")
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
