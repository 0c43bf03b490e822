"""Losses against formulas written out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from exeunt.train.demo.losses import (
    DistillationWeights,
    exit_weights,
    joint_cross_entropy,
    multimodality_self_distillation,
    self_distillation,
)

Exits = list[list[list[float]]]  # [K, B, C]


def softmax(z: list[float]) -> list[float]:
    e = [math.exp(value) for value in z]
    return [value / sum(e) for value in e]


def by_hand(logits: Exits, tau: float) -> tuple[float, float]:
    """Eq. (9) and (13) summed over the students, in plain floats."""
    teacher = logits[-1]
    divergence = error = 0.0
    for student in logits[:-1]:
        for s_row, t_row in zip(student, teacher, strict=True):
            s = softmax([value / tau for value in s_row])
            t = softmax([value / tau for value in t_row])
            kl = sum(a * (math.log(a) - math.log(b)) for a, b in zip(s, t, strict=True))
            divergence += tau**2 * kl / len(teacher)
            error += sum((a - b) ** 2 for a, b in zip(s_row, t_row, strict=True)) / (
                len(teacher) * len(s_row)
            )
    return divergence, error


@pytest.fixture
def logits() -> Exits:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3, 4)).tolist() for _ in range(3)]


def tensors(logits: Exits) -> list[Tensor]:
    return [torch.tensor(z, dtype=torch.float64) for z in logits]


@pytest.mark.parametrize("tau", [1.0, 2.0, 4.0])
def test_self_distillation_is_the_formula(logits: Exits, tau: float) -> None:
    found = self_distillation(tensors(logits), tau)
    assert [float(term) for term in found] == pytest.approx(by_hand(logits, tau), rel=1e-9)


def test_distillation_adds_the_modes(logits: Exits) -> None:
    weights = DistillationWeights(joint=1.0, text=0.25, image=0.5, tau=2.0)
    modes = [logits, logits[::-1], [logits[1], logits[2], logits[0]]]
    expected = sum(
        weight * sum(by_hand(mode, 2.0))
        for weight, mode in zip((1.0, 0.25, 0.5), modes, strict=True)
    )
    joint, text, image = (tensors(mode) for mode in modes)
    found = multimodality_self_distillation(joint, text, image, weights)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_teacher_gets_no_gradient(logits: Exits) -> None:
    exits = [z.requires_grad_() for z in tensors(logits)]
    divergence, error = self_distillation(exits, 2.0)
    torch.autograd.backward([divergence + error])
    assert exits[-1].grad is None
    assert all(z.grad is not None and z.grad.abs().sum() > 0 for z in exits[:-1])


def test_an_exit_equal_to_the_teacher_costs_nothing(logits: Exits) -> None:
    same = tensors([logits[0]] * 3)
    assert [float(term) for term in self_distillation(same, 2.0)] == pytest.approx([0.0, 0.0])


def test_joint_cross_entropy_is_the_formula(logits: Exits) -> None:
    label = [2, 0, 3]
    weights = exit_weights(3, 1.0)
    expected = -sum(
        w * math.log(softmax(row)[y]) / 3
        for w, z in zip(weights, logits, strict=True)
        for row, y in zip(z, label, strict=True)
    )
    found = joint_cross_entropy(tensors(logits), torch.tensor(label), weights)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_exit_weights_grow_and_have_mean_one() -> None:
    assert exit_weights(4, 0.0) == [1.0] * 4
    assert exit_weights(3, 1.0) == pytest.approx([0.5, 1.0, 1.5])
