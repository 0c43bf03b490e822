"""Text as it grows: what each further token adds to it."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # what a decoder writes for bytes that are no character


class TextPieces:
    """Turns the tokens of one text, one after another, into pieces that together are the text.

    A piece is what the text of all tokens so far has more than the pieces before. What later tokens
    may still change is held back: bytes that are no whole character yet, and blanks, which are cut
    off where nothing follows.

    detokenise: the text of tokens; None in a bundle that has no tokenizer.
    """

    def __init__(self, detokenise: Callable[[Sequence[int]], str] | None) -> None:
        self._detokenise = detokenise
        self._tokens: list[int] = []
        self._told = ""

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens so far."""
        return self._tokens

    def add(self, token: int) -> None:
        """Take the next token."""
        self._tokens.append(token)

    def piece(self, *, is_last: bool) -> str | None:
        """Return what the text has more since the last piece; None without a tokenizer.

        Args:
            is_last: whether no token follows, so that nothing is held back.
        """
        if self._detokenise is None:
            return None
        text = self._detokenise(self._tokens)
        if not is_last:
            text = text.rstrip(INCOMPLETE).rstrip()
        if not text.startswith(self._told):  # shorter, or to be decided by the next token
            return ""
        piece = text[len(self._told) :]
        self._told = text
        return piece
