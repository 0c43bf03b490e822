"""An override of the threshold keeps the lane's `fill`."""

from exeunt.server.overrides import Overrides
from exeunt.server.samples import Sample
from exeunt.server.settings import OverrideSettings
from tests.engine.golden_manifests import ofa
from tests.engine.golden_manifests.walking import open_engine


def test_an_override_keeps_how_skipped_caches_are_filled() -> None:
    rules = {"decoder": {"any": [{"criterion": "cosine", "threshold": 0.93}], "fill": "mue"}}
    engine, _ = open_engine(ofa(), rules)
    with engine:
        overrides = Overrides(engine, OverrideSettings(criteria=("cosine",), thresholds=True))
        policy = overrides.policy(Sample({}, "cosine", 0.93))
        assert policy is not None
        assert policy.lanes["caption", "decoder"].fill == "mue"
