"""`deterministic: true` refuses a bundle whose answers move with the batch."""

import pytest

from exeunt.engine import Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import PrecisionSpec
from exeunt.engine.determinism import refuse_batch_dependent
from exeunt.engine.errors import ConfigError
from tests.support.manifests import fake_bundle, single_stream


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


def test_the_engine_refuses_at_start_and_only_when_asked_to() -> None:
    manifest = single_stream(2).model_copy(
        update={"precision": PrecisionSpec(layers="int8", batch_invariant=False)}
    )
    bundle = fake_bundle(manifest)
    with pytest.raises(ConfigError, match="deterministic is set"):
        Engine.open(bundle, {"deterministic": True}, backend=FakeBackend())
    Engine.open(bundle, backend=FakeBackend()).close()
    Engine.open(
        fake_bundle(single_stream(2)), {"deterministic": True}, backend=FakeBackend()
    ).close()
