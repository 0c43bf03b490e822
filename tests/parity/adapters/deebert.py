"""DeeBERT's goldens: an exit after every layer, by entropy, and a final head beside them."""

from collections.abc import Mapping
from pathlib import Path

from tests.parity.adapters.bert_exits import golden
from tests.support.goldens import Golden


def read(folder: Path) -> Mapping[str, Golden]:
    return {"": golden(folder, "entropy", "thresholds", "logits_final")}
