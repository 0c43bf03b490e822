"""The pack: where the tokens of rows that differ in length lie, side by side and padded."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Indices = NDArray[np.int64]

# Sizes are rounded up. Softmax and sums over a row then add their numbers in an order that the
# row's batch mates do not change (what is added is zero), and a backend that compiles kernels for
# each shape meets few of them.
MULTIPLE = 16
# NumPy sums up to so many numbers in eight running sums, and halves what is longer.
BLOCK = 128


@dataclass(frozen=True, slots=True)
class Pack:
    """The places of B rows' tokens, N of them (rounded up to `size`), T in the padded view.

    starts, ends: i64[B], a row's tokens among all. inside: bool[B, T], which places of the padded
    view hold a token. gather: i64[B, T], each place's token; beside a row's end its own first one,
    so that no row ever meets another's numbers. scatter: i64[N], each token's place in B * T.
    leads: f32[B], the mask at each row's first token.
    """

    starts: Indices
    ends: Indices
    inside: NDArray[np.bool_]
    gather: Indices
    scatter: Indices
    leads: NDArray[np.float32]
    count: int
    size: int

    @property
    def rows(self) -> int:
        """B."""
        return len(self.starts)

    @property
    def tokens(self) -> int:
        """T."""
        return int(self.inside.shape[1])

    def tensors(self) -> dict[str, Array]:
        """Return what a packed layer reads beside the tokens, by reference."""
        mask = np.empty(self.inside.shape, dtype=np.float32)
        self.write_mask(mask)
        return {
            "pack.gather": self.gather,
            "pack.mask": mask,
            "pack.scatter": self.padded(self.scatter),
        }

    def padded(self, tokens: Array) -> Array:
        """Return a copy of [N, ...] tokens with zeros up to `size`."""
        array = np.zeros((self.size, *tokens.shape[1:]), dtype=tokens.dtype)
        array[: self.count] = tokens
        return array

    def write_mask(self, mask: NDArray[np.float32]) -> None:
        """Fill f32[B, T]: 1 at a row's valid tokens, 0 elsewhere."""
        mask[:] = self.inside
        mask[:, 0] = self.leads

    def summable(self) -> tuple[Indices, NDArray[np.bool_]]:
        """Return `gather` and the valid places, T such that sums over it ignore batch mates."""
        gather, inside = self.gather, self.inside
        if self.tokens > BLOCK:
            width = BLOCK << (-(-self.tokens // BLOCK) - 1).bit_length()
            inside = np.zeros((self.rows, width), dtype=np.bool_)
            inside[:, : self.tokens] = self.inside
            gather = np.repeat(self.starts[:, np.newaxis], width, axis=1)
            gather[:, : self.tokens] = self.gather
        valid = inside.copy()
        valid[:, 0] = self.leads > 0
        return gather, valid


def pack_rows(lengths: Indices, leads: NDArray[np.float32]) -> Pack:
    """Return where rows of these lengths (each at least 1) and masks of their first token lie."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    count = int(ends[-1])
    places = np.arange(rounded(int(lengths.max())))
    inside = places < lengths[:, np.newaxis]
    gather = starts[:, np.newaxis] + places * inside
    scatter = np.flatnonzero(inside)
    return Pack(starts, ends, inside, gather, scatter, leads, count, rounded(count))


def valid_tokens(mask: Array) -> NDArray[np.bool_]:
    """Return bool[B, T], the tokens that a row keeps when it is packed: the valid and the first."""
    kept = mask > 0
    kept[:, 0] = True
    return kept


def packed_inputs(
    references: Iterable[str], read: Callable[[str], Array], mask: Array
) -> tuple[NDArray[np.bool_], dict[str, Array]]:
    """Return what a packed layer reads, made from padded rows.

    Args:
        references: of the layer's inputs.
        read: returns a state of the rows, [B, T, ...].
        mask: [B, T], above 0 at valid tokens.

    Returns:
        bool[B, T], the tokens that are packed; and the inputs by reference.
    """
    kept = valid_tokens(mask)
    pack = pack_rows(kept.sum(axis=1), mask[:, 0].astype(np.float32))
    tensors = pack.tensors()
    states = {text: pack.padded(read(text)[kept]) for text in references if text not in tensors}
    return kept, tensors | states


def padded_rows(tokens: Array, kept: NDArray[np.bool_]) -> Array:
    """Return [B, T, ...] rows of packed tokens, 0 where none was packed."""
    rows = np.zeros((*kept.shape, *tokens.shape[1:]), dtype=tokens.dtype)
    rows[kept] = tokens[: np.count_nonzero(kept)]
    return rows


def rounded(size: int) -> int:
    """Return the size rounded up to a multiple of 16, from 512 on to four significant bits."""
    step = max(MULTIPLE, 1 << max(0, size.bit_length() - 5))
    return -(-size // step) * step
