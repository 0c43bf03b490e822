"""Pieces of a growing text: together they are the text."""

import random
from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from exeunt.server.pieces import TextPieces

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
_TOKENIZER = Tokenizer(BPE({letter: place for place, letter in enumerate(ALPHABET)}, []))
_TOKENIZER.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
_TOKENIZER.decoder = decoders.ByteLevel()


def decode(tokens: Sequence[int]) -> str:
    return str(_TOKENIZER.decode(list(tokens))).strip()


def pieces_of(tokens: list[int]) -> list[str]:
    growing = TextPieces(decode)
    pieces = []
    for place, token in enumerate(tokens):
        growing.add(token)
        piece = growing.piece(is_last=place == len(tokens) - 1)
        assert piece is not None
        pieces.append(piece)
    return pieces


TEXTS = [
    "a cat",
    "a \N{EM SPACE}",
    " a  cat ",
    "größer, 大きい 😀!",
    "\N{EM SPACE}a\N{EM SPACE}b\N{NO-BREAK SPACE}",
    "é",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_bytes(text: str) -> None:
    pieces = pieces_of(_TOKENIZER.encode(text).ids)
    assert "".join(pieces) == text.strip()
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


def test_a_character_comes_when_it_is_whole() -> None:
    assert pieces_of(_TOKENIZER.encode("a😀b").ids) == ["a", "", "", "", "😀", "b"]


def test_bytes_that_are_no_character_come_when_that_is_certain() -> None:
    cut = _TOKENIZER.encode("a😀").ids[:-1]
    assert pieces_of(cut) == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]
    assert pieces_of([*cut, *_TOKENIZER.encode("b").ids])[-1] == "\N{REPLACEMENT CHARACTER}b"


def test_any_bytes_at_all() -> None:
    draw = random.Random(0)
    blanks = _TOKENIZER.encode("   \n").ids
    for _ in range(300):
        tokens = [
            draw.choice(blanks) if draw.random() < 0.2 else draw.randrange(len(ALPHABET))
            for _ in range(draw.randrange(1, 20))
        ]
        assert "".join(pieces_of(tokens)) == decode(tokens)


def test_without_a_tokenizer_there_are_no_pieces() -> None:
    growing = TextPieces(None)
    growing.add(3)
    assert growing.piece(is_last=True) is None
