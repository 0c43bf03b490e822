"""A UNITER checkpoint as a whole: the encoder, its exits, and the head of one task."""

from collections.abc import Mapping

from torch import nn

from exeunt.export.families.uniter.config import UniterConfig, UniterSizes
from exeunt.export.families.uniter.heads import (
    TASKS,
    ChoiceHead,
    PooledExit,
    PooledHead,
    classifier,
    make_exit,
)
from exeunt.export.families.uniter.model import Uniter
from exeunt.export.layers.paired import PairedAttentionHead

# Keys of official files that a task's inference does not read.
UNREAD: Mapping[str, tuple[str, ...]] = {
    "itm": ("rank_output.*",),
    "retrieval": ("itm_output.*",),
    "nlvr2": ("uniter.encoder.EElayer.*.pooler.*",),
}


class UniterForTask(nn.Module):
    """The encoder and the head of a task.

    Args:
        sizes: of the checkpoint.
        task: one of `TASKS`.
        classes: rows of the head's last matrix.
        exits: whether there is an exit after every layer.
    """

    def __init__(self, sizes: UniterSizes, task: str, classes: int, *, exits: bool) -> None:
        super().__init__()
        config = sizes.config
        self.sizes, self.task, self.classes = sizes, task, classes
        count = config.num_hidden_layers if exits else 0
        self.uniter = Uniter(sizes, [make_exit(config, task, classes) for _ in range(count)])
        for name, part in _parts(config, task, classes).items():
            self.add_module(name, part)

    @property
    def unread(self) -> tuple[str, ...]:
        """Keys that the checkpoint may have and this task does not read."""
        return UNREAD.get(self.task, ())

    def head(self) -> nn.Module:
        """Return what answers at full depth; its parts are this model's own."""
        if self.task == "nlvr2":
            config = self.sizes.config
            pair = PairedAttentionHead(config.hidden_size, config.num_attention_heads, self.classes)
            for name, _ in pair.named_children():
                setattr(pair, name, self.get_submodule(name))
            return pair
        output = self.get_submodule(TASKS[self.task].output.split(".")[0])
        kind = ChoiceHead if self.task == "vcr" else PooledHead
        return kind(self.uniter.pooler, output)

    def exits(self) -> dict[int, nn.Module]:
        """Return the exit heads by layer; none where the checkpoint has none."""
        trained = getattr(self.uniter.encoder, "EElayer", [])
        return dict(enumerate(trained, 1))

    def reinit_poolers(self) -> None:
        """Give every exit the final pooler's weights."""
        state = self.uniter.pooler.state_dict()
        for head in self.exits().values():
            if isinstance(head, PooledExit):
                head.pooler.load_state_dict(state)


def _parts(config: UniterConfig, task: str, classes: int) -> dict[str, nn.Module]:
    """Return the parts of a task's head, as official code names them beside the encoder."""
    width = config.hidden_size
    if task == "nlvr2":
        pair = PairedAttentionHead(width, config.num_attention_heads, classes)
        return dict(pair.named_children())
    name = TASKS[task].output.split(".")[0]
    if task in ("itm", "retrieval"):
        return {name: nn.Linear(width, classes)}
    return {name: classifier(width, classes, nn.ReLU if task == "vcr" else nn.GELU)}
