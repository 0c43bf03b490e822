"""One optimiser step from the gradients of several shards, each made in a thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Shard = TypeVar("Shard")


class ShardedOptimisers:
    """Muon for matrices and AdamW for the rest, over gradients that threads bring together.

    Each thread takes shards through the whole model and back: one meeting a step, where threads
    inside the operators would meet hundreds of times.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        *,
        threads: int,
        matrix_lr: float,
        other_lr: float,
        weight_decay: float,
    ) -> None:
        self.parameters = [*matrices, *others]
        self._others = list(others)
        self._rates = (matrix_lr, other_lr)
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        # Muon takes about half of AdamW's steps for the layers' matrices.
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=weight_decay, momentum=0.95),
            torch.optim.AdamW(
                self._others, lr=other_lr, weight_decay=weight_decay, betas=(0.9, 0.98)
            ),
        )

    def step(self, loss_of: Callable[[int, Shard], Tensor], shards: Sequence[Shard]) -> float:
        """Step along the sum of the shards' gradients; return the sum of their losses.

        Args:
            loss_of: the loss of a shard, by its number.
            shards: parts of a batch.
        """
        results = list(
            self._pool.map(lambda item: self._gradients(loss_of, *item), enumerate(shards))
        )
        for index, parameter in enumerate(self.parameters):
            total = results[0][1][index]
            for _, gradients in results[1:]:
                total = total + gradients[index]
            parameter.grad = total
        nn.utils.clip_grad_norm_(self._others, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        return sum(loss for loss, _ in results)

    def _gradients(
        self, loss_of: Callable[[int, Shard], Tensor], number: int, shard: Shard
    ) -> tuple[float, tuple[Tensor, ...]]:
        # Threads would share the cache of casted weights, and with it parts of their graphs.
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            loss = loss_of(number, shard)
        gradients = torch.autograd.grad(
            loss, self.parameters, allow_unused=True, materialize_grads=True
        )
        return float(loss.detach()), gradients

    def set_rates(self, scale: float) -> None:
        """Set the learning rates to a share of those given."""
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return the optimisers' states, to be saved."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from saved states."""
        for optimizer, saved in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(saved)
