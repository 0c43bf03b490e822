"""The words of the synthetic model that takes an image and a text, and its tokenizer."""

from exeunt.bench.workloads.config import UniterConfig

PAD, UNK = "[PAD]", "[UNK]"
PAD_TO_MULTIPLE = 4  # of the bundle's texts, in words


def word(place: int) -> str:
    """Return the word whose id is `place`, from 2: 0 is padding, 1 an unknown word."""
    return f"w{place}"


def words_tokenizer(config: UniterConfig) -> str:
    """Return `tokenizer.json` for the `tokenizers` library: whole words, lower-cased."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    names = [PAD, UNK, *(word(place) for place in range(2, config.vocab))]
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())
