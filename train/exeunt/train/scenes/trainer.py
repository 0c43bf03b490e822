"""One training run's state: model, optimisers, step."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exeunt.export.families.ofa.model import OfaModel
from exeunt.train.optimisers import ShardedOptimisers
from exeunt.train.run import CpuClock, read_state, write_state
from exeunt.train.scenes.objective import Heads, Objective, Sizes
from exeunt.train.scenes.options import ScenesRecipe
from exeunt.train.scenes.stream import Batch, TrainStream
from exeunt.train.scenes.walk import pixel_values

STATE_FORMAT = 1
SHARDS_PER_THREAD = 1


class Trainer:
    """Trains one model for both tasks; everything that a resumed run needs is in its state."""

    def __init__(self, recipe: ScenesRecipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model = OfaModel(recipe.model_config_of())
        self.heads = Heads(recipe)
        self._objective = Objective(recipe, self.model, self.heads)
        self.step = 0
        self.clock = CpuClock()
        layers = [*self.model.encoder.layers, *self.model.decoder.layers]
        matrices = [p for layer in layers for p in layer.parameters() if p.ndim == 2]
        taken = {id(p) for p in matrices}
        modules = (self.model, self.heads)
        others = [p for module in modules for p in module.parameters() if id(p) not in taken]
        self._optimisers = ShardedOptimisers(
            matrices,
            others,
            threads=recipe.threads,
            matrix_lr=recipe.matrix_lr,
            other_lr=recipe.vector_lr,
            weight_decay=recipe.weight_decay,
        )

    @property
    def stage(self) -> str:
        """Name what is being trained."""
        return "scenes"

    def begin(self, stream: TrainStream) -> None:
        """Set the stem's batch norms to the statistics of the first batch, where they stay.

        With fixed statistics a row's image states do not depend on its batch, in training either.
        """
        stem = self.model.encoder.embed_images
        norms = [module for module in stem.modules() if isinstance(module, nn.BatchNorm2d)]
        momentum = [norm.momentum for norm in norms]
        stem.train()
        for norm in norms:
            norm.momentum = None  # the mean over what has been seen
        with torch.no_grad():
            stem(pixel_values(stream.batch(0).pixels))
        for norm, before in zip(norms, momentum, strict=True):
            norm.momentum = before
        stem.eval()

    def train_step(self, batch: Batch) -> float:
        """Make one step; return the loss."""
        recipe = self.recipe
        scale = min(1.0, (self.step + 1) / recipe.warmup_steps)
        self._optimisers.set_rates(scale * (1.0 - self.step / recipe.steps))
        # The auxiliary losses fade out, so that the end of the training is the tasks' alone.
        faded = self.step / (recipe.steps * recipe.aid_share)
        aid = recipe.aid_weight * max(0.0, 1.0 - faded)
        sizes = Sizes.of(batch)

        def loss_of(number: int, shard: Batch) -> Tensor:
            rng = np.random.default_rng([recipe.seed, 3, self.step, number])
            return self._objective(shard, sizes, aid, rng)

        loss = self._optimisers.step(loss_of, batch.shards(SHARDS_PER_THREAD * recipe.threads))
        self.step += 1
        return loss

    def save(self, path: Path) -> None:
        """Write the state, replacing the file at once so that a stop never leaves half of it."""
        state = {
            "format": STATE_FORMAT,
            "recipe": self.recipe.model_dump(),
            "step": self.step,
            "cpu_s": self.clock.seconds,
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimisers": self._optimisers.state_dicts(),
        }
        write_state(path, state)

    def load(self, path: Path) -> None:
        """Go on from a state file.

        Raises:
            ValueError: the file was written by another format or another recipe.
        """
        state = read_state(path, STATE_FORMAT, self.recipe.model_dump())
        self.step = state["step"]
        self.clock.before_s = state["cpu_s"]
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self._optimisers.load_state_dicts(state["optimisers"])
        self.model.encoder.embed_images.eval()
