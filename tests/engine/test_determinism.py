"""`deterministic: true` refuses a bundle whose answers move with the batch."""

import pytest

from exeunt.engine.bundle.manifest import PrecisionSpec
from exeunt.engine.determinism import refuse_batch_dependent
from exeunt.engine.errors import ConfigError
from tests.support.manifests import single_stream


def test_a_batch_dependent_bundle_is_refused_with_the_reason_and_the_mend() -> None:
    manifest = single_stream(2).model_copy(
        update={"precision": PrecisionSpec(layers="int8", batch_invariant=False)}
    )
    with pytest.raises(ConfigError) as refused:
        refuse_batch_dependent(manifest)
    said = str(refused.value)
    for part in ("'single'", "int8 layers", "not batch-invariant", "without --precision", "false"):
        assert part in said


@pytest.mark.parametrize("precision", [None, PrecisionSpec(layers="int8", batch_invariant=True)])
def test_other_bundles_pass(precision: PrecisionSpec | None) -> None:
    refuse_batch_dependent(single_stream(2).model_copy(update={"precision": precision}))
