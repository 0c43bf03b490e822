"""BERT's text embeddings, as Hugging Face's classes name their parts."""

from torch import Tensor, nn


class TextEmbeddings(nn.Module):
    """Words, positions and, in most models, the type of the first segment; then a LayerNorm.

    Args:
        words: of the vocabulary.
        positions: tokens of a text at most.
        hidden: the width D.
        eps: of the norm.
        types: segments that are told apart, of which a text is the first; 0 where there are none.
    """

    def __init__(
        self, words: int, positions: int, hidden: int, eps: float, *, types: int = 2
    ) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, hidden)
        self.position_embeddings = nn.Embedding(positions, hidden)
        self.token_type_embeddings = nn.Embedding(types, hidden) if types else None
        self.LayerNorm = nn.LayerNorm(hidden, eps=eps)

    def summed(self, input_ids: Tensor) -> Tensor:
        """Return f32[B, S, D] of i64[B, S], before the norm."""
        state: Tensor = self.word_embeddings(input_ids)
        if self.token_type_embeddings is not None:
            state = state + self.token_type_embeddings.weight[0]
        return state + self.position_embeddings.weight[: input_ids.shape[1]]

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return f32[B, S, D] of i64[B, S]."""
        state: Tensor = self.LayerNorm(self.summed(input_ids))
        return state
