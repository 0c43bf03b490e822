"""Heads of the auxiliary losses that teach image tokens what their cells show."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.train.scenes.targets import NUM_CLASSES, NUM_DIRECTIONS, CellTargets

# What a token learns, and after which share of the layers: the later ones need the earlier ones.
_DEPTHS = {"shown": 1 / 4, "count": 1 / 2, "directions": 1 / 2, "rank": 1.0, "end": 1.0}


class CellHeads(nn.Module):
    """Linear heads on image tokens; not part of the model.

    One answer a statement is a weak signal at first. Here every cell learns what it shows, how
    often that is shown, in which direction which kinds are, and the facts that captions name.
    """

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = {**NUM_CLASSES, "directions": NUM_DIRECTIONS}
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size) for name, size in sizes.items()})
        self.layers = {name: max(1, round(share * layers)) for name, share in _DEPTHS.items()}

    def forward(self, states: list[Tensor], targets: CellTargets) -> Tensor:
        """Return the sum of all losses, each a mean over the cells.

        Args:
            states: of the image tokens, the embedding first, f32[N, 16, D].
            targets: of the same scenes.
        """
        total = states[0].new_zeros((), dtype=torch.float32)
        for name, layer in self.layers.items():
            found = self.heads[name](states[layer]).float().flatten(0, 1)
            wanted = torch.from_numpy(getattr(targets, name)).flatten(0, 1)
            if name == "directions":
                total = total + F.binary_cross_entropy_with_logits(found, wanted)
            else:
                total = total + F.cross_entropy(found, wanted)
        return total
