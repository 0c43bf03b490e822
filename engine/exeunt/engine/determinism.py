"""What `deterministic: true` asks of a bundle: no row's answer may depend on its batch mates."""

from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import ConfigError


def refuse_batch_dependent(manifest: Manifest) -> None:
    """Check that the bundle answers a row alike in every batch.

    Raises:
        ConfigError: it does not; says why and how to mend it.
    """
    if manifest.precision is None or manifest.precision.batch_invariant:
        return
    raise ConfigError(
        f"deterministic is set, but bundle {manifest.name!r} has {manifest.precision.layers} layers"
        " that are not batch-invariant: a row's logits, and so its exit, can move with its batch"
        " mates; export it without --precision, or set deterministic to false"
    )
