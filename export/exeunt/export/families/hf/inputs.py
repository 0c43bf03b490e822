"""How a request's text and regions become raw tensors, alike for all of Hugging Face's models."""

from pathlib import Path

from exeunt.engine.bundle.inputs import InputsSpec, RegionsSpec, TextSpec
from exeunt.engine.bundle.manifest import BucketSpec
from exeunt.export.families.options import TOKENIZER_FILE
from exeunt.export.families.regions import REGIONS, WORDS

# Texts padded to a multiple of four share batches without the cost of padding to the longest.
PAD_TO_MULTIPLE = 4
MAX_REGIONS = 100  # as many as detectors give these models at most
# Sizes to trace with: every one different, so that the exporter does not tie two axes together.
EXAMPLE_BATCH, EXAMPLE_WORDS, EXAMPLE_REGIONS = 3, 7, 5


def text_buckets(positions: int) -> dict[str, BucketSpec]:
    """Return how texts are padded, of a model with so many positions."""
    return {WORDS: BucketSpec(multiple=PAD_TO_MULTIPLE, most=positions)}


def region_buckets() -> dict[str, BucketSpec]:
    """Return how the regions of an image are padded."""
    return {REGIONS: BucketSpec(multiple=PAD_TO_MULTIPLE, most=MAX_REGIONS)}


def text_lengths(positions: int) -> tuple[int, ...]:
    """Return the lengths of texts over which parity is measured."""
    return tuple(sorted({min(length, positions) for length in (2, PAD_TO_MULTIPLE, 20)}))


def text_spec(positions: int) -> TextSpec:
    """Return how a text becomes `input_ids` and `attention_mask`."""
    return TextSpec(tokenizer=TOKENIZER_FILE, max_tokens=positions, pad_to_multiple=PAD_TO_MULTIPLE)


def text_and_regions(files: dict[str, Path], positions: int, features: int) -> InputsSpec:
    """Return how a text and regions become raw tensors; without a tokenizer they do not.

    Args:
        files: what the bundle holds beside its graphs.
        positions: tokens of a text at most.
        features: width of a region's feature.
    """
    if TOKENIZER_FILE not in files:
        return InputsSpec()
    regions = RegionsSpec(feature_size=features, box_columns=4, max_regions=MAX_REGIONS)
    return InputsSpec(text=text_spec(positions), regions=regions)
