"""Caption quality: BLEU-4 and CIDEr as COCO's evaluation computes them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CaptionScores:
    """Corpus scores in percent, as papers print them."""

    bleu4: float
    cider: float


def score_captions(generated: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score generated captions against the references of their images.

    Both are taken as they are, words apart by blanks: our own data needs no tokenising.

    Args:
        generated: one caption an image; may be empty.
        references: of each image, at least one.

    Raises:
        ValueError: the numbers of captions and of images differ.
    """
    from pycocoevalcap.bleu.bleu import Bleu  # type: ignore[import-untyped]
    from pycocoevalcap.cider.cider import Cider  # type: ignore[import-untyped]

    if len(generated) != len(references):
        raise ValueError(
            f"{len(generated)} captions for {len(references)} images: give one caption an image"
        )
    wanted = {row: list(texts) for row, texts in enumerate(references)}
    found = {row: [text] for row, text in enumerate(generated)}
    bleu, _ = Bleu(4).compute_score(wanted, found, verbose=0)
    cider, _ = Cider().compute_score(wanted, found)
    return CaptionScores(100 * float(bleu[3]), 100 * float(cider))
