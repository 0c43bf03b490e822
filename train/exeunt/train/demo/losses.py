"""Losses that make exits good: joint cross-entropy and multimodality self-distillation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class DistillationWeights:
    """Lambdas of UNITER-MSD, Eq. (12) and (16), and the temperature."""

    joint: float = 1.0
    text: float = 0.5
    image: float = 0.5
    tau: float = 2.0


def exit_weights(depth: int, power: float) -> list[float]:
    """Weigh the exits: w_k proportional to k^power, with mean 1.

    `power` 0 is the plain sum; 1 grows with depth, as BranchyNet and PABEE do.
    """
    raw = [float(k**power) for k in range(1, depth + 1)]
    return [weight * depth / sum(raw) for weight in raw]


def joint_cross_entropy(
    logits: Sequence[Tensor], label: Tensor, weights: Sequence[float]
) -> Tensor:
    """Return the cross-entropy of all exits.

    L_CE = -sum_k w_k I(y) log softmax(z^(k)), a mean over the batch; w_k = 1 is the paper's.

    Args:
        logits: for each exit f32[B, C].
        label: i64[B].
        weights: w_k of each exit.

    Reference: UNITER-MSD, Eq. (4)
    """
    terms = [weight * F.cross_entropy(z, label) for z, weight in zip(logits, weights, strict=True)]
    return torch.stack(terms).sum()


def self_distillation(logits: Sequence[Tensor], tau: float) -> tuple[Tensor, Tensor]:
    """Return the KL and the MSE term of one input mode, each a sum over the exits before the last.

    L_KL^(k) = tau^2 KL(p_s^(k) || p_t^(K)), p = softmax(z / tau), L_MSE^(k) = mean (z_s - z_t)^2.
    The last exit is the teacher, so no gradient flows into it from here. KL follows the paper's
    order: the student's distribution comes first.

    Args:
        logits: for each exit f32[B, C], the teacher last.
        tau: temperature, > 0.

    Reference: UNITER-MSD, Eq. (7)-(9) and (13); Eq. (10), (11), (14), (15) on masked inputs
    """
    teacher = logits[-1].detach()
    log_teacher = F.log_softmax(teacher / tau, dim=-1)
    divergence = teacher.new_zeros(())
    error = teacher.new_zeros(())
    for student in logits[:-1]:
        log_student = F.log_softmax(student / tau, dim=-1)
        terms = log_student.exp() * (log_student - log_teacher)
        divergence = divergence + tau**2 * terms.sum(dim=-1).mean()
        error = error + F.mse_loss(student, teacher)
    return divergence, error


def multimodality_self_distillation(
    joint: Sequence[Tensor],
    text: Sequence[Tensor],
    image: Sequence[Tensor],
    weights: DistillationWeights,
) -> Tensor:
    """Return L_MS + L_ED: each input mode distils its own last exit into its own earlier ones.

    L_MS + L_ED = sum over modes m of lambda^m sum_{k<K} (L_KL,m^(k) + L_MSE,m^(k)).

    Args:
        joint: logits of each exit f32[B, C], both modalities seen.
        text: the same with the image masked.
        image: the same with the text masked.
        weights: lambdas and tau.

    Reference: UNITER-MSD, Eq. (12) and (16)
    """
    total = joint[0].new_zeros(())
    for logits, weight in ((joint, weights.joint), (text, weights.text), (image, weights.image)):
        divergence, error = self_distillation(logits, weights.tau)
        total = total + weight * (divergence + error)
    return total
