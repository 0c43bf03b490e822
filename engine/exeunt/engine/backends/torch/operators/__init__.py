"""The table of ONNX operators as torch calls."""

from exeunt.engine.backends.torch.operators.attributes import (
    Attributes,
    Builder,
    Call,
    UnsupportedError,
)
from exeunt.engine.backends.torch.operators.elementwise import ELEMENTWISE
from exeunt.engine.backends.torch.operators.indexing import INDEXING
from exeunt.engine.backends.torch.operators.linear import LINEAR
from exeunt.engine.backends.torch.operators.reduction import REDUCTION
from exeunt.engine.backends.torch.operators.shape import SHAPE

OPERATORS: dict[str, Builder] = {**ELEMENTWISE, **INDEXING, **LINEAR, **REDUCTION, **SHAPE}

__all__ = ["OPERATORS", "Attributes", "Builder", "Call", "UnsupportedError"]
