"""BERT's embeddings of words that say what type they are."""

from torch import Tensor, nn

from exeunt.export.layers.bert import EPS


class BertEmbeddings(nn.Module):
    """Words, positions and types, summed and normed.

    Args:
        words: of the vocabulary.
        positions: tokens of a text at most.
        types: of segments.
        hidden: the width D.
    """

    def __init__(self, words: int, positions: int, types: int, hidden: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, hidden)
        self.position_embeddings = nn.Embedding(positions, hidden)
        self.token_type_embeddings = nn.Embedding(types, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=EPS)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return f32[B, S, D] of i64[B, S] and i64[B, S], at the positions from 0."""
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        kinds = self.token_type_embeddings(token_type_ids)
        state: Tensor = self.LayerNorm(self.word_embeddings(input_ids) + positions + kinds)
        return state
