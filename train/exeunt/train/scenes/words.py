"""The vocabulary of the two tasks, with OFA's special tokens, and its tokenizer."""

from functools import cache

from exeunt.train.demo.scenes import KINDS
from exeunt.train.demo.templates import NUMBERS as STATEMENT_NUMBERS
from exeunt.train.demo.templates import QUANTIFIERS, RELATIONS, STATEMENT_LABELS
from exeunt.train.scenes.captions import FORMS, NUMBERS
from exeunt.train.scenes.definitions import ALIASES, MEANS

BOS, PAD, EOS, UNK = "<s>", "<pad>", "</s>", "<unk>"
BOS_ID, PAD_ID, EOS_ID, UNK_ID = range(4)

CAPTION_PROMPT = "what does the image describe ?"
# What the model says of a statement, in the order of STATEMENT_LABELS.
ANSWERS = ("yes", "maybe", "no")
ANSWER_OF_LABEL = dict(zip(STATEMENT_LABELS, ANSWERS, strict=True))
MAX_SOURCE_TOKENS = 24
MAX_TARGET_TOKENS = 16

_STATEMENT_WORDS = ("a", "an", "no", "is", "are", "there", "and", "that")
_CAPTION_WORDS = ("nothing", "else", "parcel", "parcels")


@cache
def vocabulary() -> dict[str, int]:
    """Return every word with its id; the order is fixed."""
    words = [BOS, PAD, EOS, UNK, *ANSWERS, *CAPTION_PROMPT.split(), *_STATEMENT_WORDS]
    for phrase in (*QUANTIFIERS, *STATEMENT_NUMBERS, *RELATIONS, *NUMBERS):
        words.extend(phrase.split())
    for form in FORMS:
        words.extend(word for word in form.split() if not word.startswith("{"))
    words.extend(_CAPTION_WORDS)
    words.append(MEANS)
    for alias in ALIASES:
        words.extend((alias, f"{alias}s"))
    for _, singular, plural in KINDS:
        words.extend((singular, plural))
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


@cache
def words_by_id() -> tuple[str, ...]:
    """Return the words in the order of their ids."""
    return tuple(vocabulary())


def source_ids(text: str) -> list[int]:
    """Return the ids of an input text between the two ends, as the shipped tokenizer does."""
    return [BOS_ID, *word_ids(text), EOS_ID]


def word_ids(text: str) -> list[int]:
    """Return the ids of the words of a text that our own data wrote: apart by blanks."""
    known = vocabulary()
    return [known.get(word, UNK_ID) for word in text.split()]


def text_of(ids: list[int]) -> str:
    """Return generated words up to the end, without the special tokens."""
    upto = ids.index(EOS_ID) if EOS_ID in ids else len(ids)
    return " ".join(words_by_id()[i] for i in ids[:upto] if i > UNK_ID)


def tokenizer_json() -> str:
    """Return `tokenizer.json` for the `tokenizers` library: lower-cased words between two ends."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.add_special_tokens([BOS, PAD, EOS, UNK])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, BOS_ID), (EOS, EOS_ID)]
    )
    return str(tokenizer.to_str(pretty=True))
