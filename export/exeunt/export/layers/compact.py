"""Bringing the valid tokens of several sequences to the front of one."""

import torch
from torch import Tensor


def compact(hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sequence with its valid tokens first, in their order, and the padding behind.

    Args:
        hidden: f32[B, T, D].
        mask: i64[B, T], 1 at valid tokens and 0 at padding.

    Returns:
        f32[B, T, D], and its mask f32[B, T].
    """
    tokens = torch.arange(mask.shape[1], device=mask.device)
    # Distinct keys: an order of equal ones would be left to the backend.
    order = torch.argsort((1 - mask) * mask.shape[1] + tokens, dim=1)
    gathered = torch.gather(hidden, 1, order[:, :, None].expand(-1, -1, hidden.shape[2]))
    return gathered, torch.gather(mask, 1, order).to(hidden.dtype)
