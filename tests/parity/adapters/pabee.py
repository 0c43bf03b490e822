"""PABEE's goldens: exits by patience."""

from collections.abc import Mapping
from pathlib import Path

from tests.parity.adapters.bert_exits import golden
from tests.support.goldens import Golden


def read(folder: Path) -> Mapping[str, Golden]:
    return {"": golden(folder, "patience", "patiences", None)}
