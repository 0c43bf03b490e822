"""What UNITER answers with, task by task, with the parameter names of its checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from exeunt.export.families.state_dict import required
from exeunt.export.families.uniter.config import UniterConfig
from exeunt.export.families.weights import Weights
from exeunt.export.layers.bert import EPS, BertPooler
from exeunt.export.layers.paired import PairedAttentionHead

TaskKind = Literal["classification", "multiple_choice", "matching", "ranking"]


@dataclass(frozen=True)
class UniterTask:
    """One of the tasks.

    output: the last matrix of its head, whose rows are the classes. rows: a sample has. types:
    whether texts have token types. labels: official ones. spare: words of the embedding that the
    tokenizer does not have.
    """

    kind: TaskKind
    output: str
    rows: int = 1
    types: bool = False
    labels: tuple[str, ...] = ()
    spare: int = 0


TASKS = {
    "ve": UniterTask(
        "classification",
        "vqa_output.3.weight",
        labels=("contradiction", "entailment", "neutral"),
    ),
    "vqa": UniterTask("classification", "vqa_output.3.weight"),
    "vcr": UniterTask("multiple_choice", "vcr_output.3.weight", rows=4, types=True, spare=81),
    "nlvr2": UniterTask("classification", "nlvr2_output.weight", rows=2, labels=("False", "True")),
    "retrieval": UniterTask("ranking", "rank_output.weight"),
    "itm": UniterTask("matching", "itm_output.weight", labels=("no match", "match")),
}


def fitting_tasks(weights: Weights) -> list[str]:
    """Return the tasks that the checkpoint has a head for, the likeliest first.

    VQA and VE share a head: the one with three answers is VE's.
    """
    found = [name for name, task in TASKS.items() if task.output in weights.tensors]
    if "ve" in found and required(weights, TASKS["ve"].output, axes=2).shape[0] != len(
        TASKS["ve"].labels
    ):
        found.remove("ve")
    return found


def classifier(
    hidden: int, labels: int, activation: Callable[[], nn.Module] = nn.GELU
) -> nn.Sequential:
    """Return the two layers that answer from the pooled first token, as VQA, VE and VCR do."""
    return nn.Sequential(
        nn.Linear(hidden, 2 * hidden),
        activation(),
        nn.LayerNorm(2 * hidden, eps=EPS),
        nn.Linear(2 * hidden, labels),
    )


class PooledHead(nn.Module):
    """A pooler, and what answers from the pooled first token."""

    def __init__(self, pooler: BertPooler, output: nn.Module) -> None:
        super().__init__()
        self.pooler = pooler
        self.output = output

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, C] of the state f32[B, T, D]."""
        logits: Tensor = self.output(self.pooler(hidden))
        return logits


class ChoiceHead(nn.Module):
    """One logit a choice: that of "right" among the two that each choice is given."""

    def __init__(self, pooler: BertPooler, output: nn.Module) -> None:
        super().__init__()
        self.pooler = pooler
        self.output = output

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, K] of the states f32[B, K, T, D] of K choices."""
        rated: Tensor = self.output(self.pooler(hidden.flatten(0, 1)))  # [B * K, 2]
        return rated[:, 1].reshape(-1, hidden.shape[1])


class PooledExit(nn.Module):
    """UNITER-MSD's exit for VQA and VE: a pooler and a classifier of its own.

    Reference: UNITER-MSD, Eq. (2)
    """

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.pooler = BertPooler(hidden)
        self.vqa_output = classifier(hidden, labels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, C] of the state f32[B, T, D]."""
        logits: Tensor = self.vqa_output(self.pooler(hidden))
        return logits


def make_exit(config: UniterConfig, task: str, labels: int) -> nn.Module:
    """Return one exit of UNITER-MSD."""
    if task == "nlvr2":
        return PairedAttentionHead(config.hidden_size, config.num_attention_heads, labels)
    return PooledExit(config.hidden_size, labels)
