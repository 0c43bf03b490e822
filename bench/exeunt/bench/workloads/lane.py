"""The one lane that the bench's peers and drawn exits need of a bundle."""

from exeunt.engine.bundle.manifest import LaneSpec, Manifest
from exeunt.engine.errors import ConfigError

BATCH = "batch"  # the batch axis in every graph that export writes


def single_lane(manifest: Manifest) -> LaneSpec:
    """Return the lane of a model that has a single one, which each row walks once on its own.

    Raises:
        ConfigError: there are several lanes, a loop, groups of rows, or no head at the end.
    """
    lane = manifest.lanes[0]
    if len(manifest.lanes) > 1 or lane.loop or lane.rows > 1:
        raise ConfigError(
            f"the bundle {manifest.name!r} has several lanes, a loop or groups of rows: expected"
            " one lane that each row walks once"
        )
    if lane.final_head is None and lane.depth not in lane.heads:
        raise ConfigError(f"the bundle {manifest.name!r} has no head after its last layer")
    return lane


def last_head(lane: LaneSpec) -> str:
    """Return the segment that answers at full depth."""
    return lane.final_head or lane.heads[lane.depth]


def entering(lane: LaneSpec) -> list[str]:
    """Return the segments that run before the first layer."""
    return [*lane.setup, *([lane.entry] if lane.entry else [])]
