"""Cutting an Oscar checkpoint: a classifier over one `joint` lane, or a loop of captioning."""

from pathlib import Path

from exeunt.export.families.hf.config import peek
from exeunt.export.families.options import DEFAULTS, SourceOptions, check_options
from exeunt.export.families.oscar.classification import CLASSIFIERS, plan_classification
from exeunt.export.families.oscar.config import read_config
from exeunt.export.families.state_dict import MisfitError
from exeunt.export.families.weights import read_state_dict
from exeunt.export.plan import BundlePlan

FAMILY = "oscar"


class OscarFamily:
    """Oscar; see `exeunt.export.families.oscar`."""

    name = FAMILY
    keys = (
        "bert.img_embedding.weight",
        "bert.img_embedding.bias",
        "bert.embeddings.word_embeddings.weight",
    )

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` has the width of a region, as only Oscar's has."""
        return "img_feature_dim" in peek(source)

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("task", "labels", "tokenizer"))
        config, weights = read_config(source), read_state_dict(source)
        if any(key in weights.tensors for key in CLASSIFIERS.values()):
            return plan_classification(self.name, config, weights, options)
        raise MisfitError(
            f"{weights.file} has no head of Oscar's: expected"
            f" {' or '.join(CLASSIFIERS.values())}; a pretrained encoder answers"
            " nothing before it is fine-tuned",
            tuple(weights.tensors),
        )
