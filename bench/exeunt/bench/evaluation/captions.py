"""Caption quality by the scorers of COCO's evaluation."""

from collections.abc import Sequence

from exeunt.bench.data.load import EXTRA
from exeunt.engine.errors import ConfigError


def bleu4_and_cider(
    texts: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, float]:
    """Return BLEU-4 and CIDEr of a corpus, both in percent as papers print them.

    Words are lower-cased and taken apart at blanks and punctuation, on both sides alike.

    Args:
        texts: one a sample; may be empty.
        references: of each sample, at least one.

    Raises:
        ConfigError: the scorers are not installed.
    """
    try:
        from exeunt.train.scenes.scorers import score_captions

        found = score_captions(
            [_words(text) for text in texts],
            [[_words(text) for text in several] for several in references],
        )
    except ImportError as error:
        raise ConfigError(f"captions are scored with the package {error.name}: {EXTRA}") from None
    return found.bleu4, found.cider


def _words(text: str) -> str:
    spaced = "".join(f" {c} " if not (c.isalnum() or c.isspace()) else c for c in text.lower())
    return " ".join(spaced.split())
