"""The demo model's vocabulary, labels and tokenizer."""

import re
from functools import cache

from exeunt.train.demo.questions import COLORS, QUESTION_LABELS, SHAPES
from exeunt.train.demo.scenes import KINDS
from exeunt.train.demo.templates import NUMBERS, QUANTIFIERS, RELATIONS, STATEMENT_LABELS

LABELS: tuple[str, ...] = (*QUESTION_LABELS, *STATEMENT_LABELS)
PAD, UNK = "[PAD]", "[UNK]"
PAD_ID, UNK_ID = 0, 1
MAX_TOKENS = 32

_QUESTION_WORDS = (
    *("?", "what", "is", "the", "shape", "color", "of", "does", "image"),
    *("contain", "not", "there", "in", "present"),
)
_STATEMENT_WORDS = ["a", "an", "no", "are", "and", "that"]


@cache
def vocabulary() -> dict[str, int]:
    """Return every word with its id; the order is fixed."""
    words = [PAD, UNK, *_QUESTION_WORDS, *SHAPES, *COLORS, *_STATEMENT_WORDS]
    for phrase in (*QUANTIFIERS, *NUMBERS, *RELATIONS):
        words.extend(phrase.split())
    for _, singular, plural in KINDS:
        words.extend((singular, plural))
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


_TOKEN = re.compile(r"\w+|[^\w\s]")


def encode(text: str) -> list[int]:
    """Return the token ids of a text, as the shipped `tokenizer.json` does."""
    known = vocabulary()
    return [known.get(token, UNK_ID) for token in _TOKEN.findall(text.lower())][:MAX_TOKENS]


def tokenizer_json() -> str:
    """Return `tokenizer.json` for the `tokenizers` library: lower-cased whole words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.enable_truncation(MAX_TOKENS)
    return str(tokenizer.to_str(pretty=True))
