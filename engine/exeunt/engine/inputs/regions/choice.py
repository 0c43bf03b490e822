"""Which of a detector's regions a model is given."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CONFIDENCE = 0.2
FEWEST, MOST = 10, 100


def chosen(confidences: Array, max_regions: int) -> NDArray[np.intp]:
    """Return the places of the regions to keep, ascending.

    Those of a confidence above .2 are kept, but no fewer than 10 (as far as there are so many) and
    no more than 100 or `max_regions`: the surest ones, the earlier of equals. From regions in
    descending order of confidence, as UNITER's files have them, UNITER takes the same.

    Args:
        confidences: float32 [N], finite.
        max_regions: the most that the model takes.
    """
    wanted = max(FEWEST, int((confidences > CONFIDENCE).sum()))
    count = min(wanted, MOST, max_regions)
    surest = np.argsort(-confidences, kind="stable")[:count]
    return np.sort(surest)
