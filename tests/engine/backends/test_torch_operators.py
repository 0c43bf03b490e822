"""Every operator of the torch backend against ONNX's own reference evaluator."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exeunt.engine.backends.torch.graph import Graph, load_graph
from exeunt.engine.backends.torch.operators import OPERATORS
from exeunt.engine.errors import BundleError

rng = np.random.default_rng(11)


class Case(NamedTuple):
    """One node. inputs: None leaves an optional one out."""

    operator: str
    inputs: list[Any]
    attributes: Mapping[str, Any] = MappingProxyType({})
    outputs: int = 1


def f(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def scalar(value: float, dtype: str = "int64") -> np.ndarray:
    return np.array(value, dtype=dtype)


POSITIVE = np.abs(f(2, 3)) + 0.1
EDGES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, 2.5, -2.5], dtype=np.float32)
YES = np.array([[True, False, True]])
NO = np.array([[True], [False]])

UNARY = (
    *("Abs", "Ceil", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
    *("HardSwish", "Identity", "LeakyRelu", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sign"),
    *("Sin", "Softplus", "Tanh"),
)
BINARY = (
    *("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"),
)

ELEMENTWISE = [
    *[Case(name, [f(2, 3)]) for name in UNARY],
    *[Case(name, [POSITIVE]) for name in ("Log", "Sqrt")],
    *[Case(name, [EDGES]) for name in ("IsNaN", "IsInf", "Round", "Relu", "Abs")],
    *[Case(name, [f(2, 1, 3), f(4, 1)]) for name in BINARY],
    *[Case(name, [NO, YES]) for name in ("And", "Or", "Xor")],
    Case("Not", [NO]),
    Case("Equal", [i(1, 2, 3), i(1, 0, 3)]),
    Case("Div", [i(7, -7, 7), i(2, 2, -2)]),
    Case("Sum", [f(3), f(3), f(2, 3)]),
    Case("Mean", [f(2, 3), f(2, 3), f(2, 3)]),
    Case("Max", [f(3)]),
    Case("Mod", [i(7, -7, 7), i(3, 3, -3)]),
    Case("Mod", [f(4), np.abs(f(4)) + 0.5], {"fmod": 1}),
    Case("Pow", [POSITIVE, scalar(2.5, "float32")]),
    Case("Pow", [f(2, 3), scalar(2)]),
    Case("Pow", [i(2, 3), scalar(2.0, "float32")]),
    Case("Clip", [f(2, 3), scalar(-0.5, "float32"), scalar(0.5, "float32")]),
    Case("Clip", [f(2, 3), None, scalar(0.1, "float32")]),
    Case("Clip", [f(2, 3), scalar(0.1, "float32")]),
    Case("Clip", [f(2, 3)]),
    Case("Gelu", [f(2, 3)], {"approximate": "tanh"}),
    Case("LeakyRelu", [f(2, 3)], {"alpha": 0.3}),
    Case("Elu", [f(2, 3)], {"alpha": 0.5}),
    Case("HardSigmoid", [f(2, 3)], {"alpha": 0.3, "beta": 0.4}),
    Case("Cast", [np.array([1.9, -1.9, 0.0], np.float32)], {"to": TensorProto.INT64}),
    Case("Cast", [np.array([1.9, -1.9, 0.0], np.float32)], {"to": TensorProto.BOOL}),
    Case("Cast", [i(1, 0)], {"to": TensorProto.FLOAT}),
    Case("Cast", [YES], {"to": TensorProto.FLOAT}),
    Case("CastLike", [i(1, 0), f(1)]),
    Case("Where", [YES, f(2, 3), scalar(-1e4, "float32")]),
]
REDUCTION = [
    *[
        Case(name, [f(2, 3, 4), axes], {"keepdims": keep})
        for name in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2")
        for axes in (i(-1), i(0, 2))
        for keep in (0, 1)
    ],
    Case("ReduceMean", [f(2, 3)]),
    Case("ReduceSum", [f(2, 3)], {"keepdims": 0}),
    Case("ReduceSum", [f(2, 3), i()], {"noop_with_empty_axes": 1}),
    Case("ReduceSum", [np.array([1, 2], np.int32), i(0)]),
    *[
        Case(name, [f(2, 3, 4)], attributes)
        for name in ("Softmax", "LogSoftmax")
        for attributes in ({}, {"axis": 1})
    ],
    *[
        Case(name, [f(2, 3, 4)], {"axis": axis, "keepdims": keep})
        for name in ("ArgMax", "ArgMin")
        for axis, keep in ((0, 1), (-1, 0))
    ],
    Case("CumSum", [f(2, 3), scalar(1)]),
    Case("TopK", [np.array([[3, 1, 3, 2]], np.float32), i(3)], {}, 2),
    Case("TopK", [f(3, 2), i(2)], {"axis": 0, "largest": 0}, 2),
    Case("LayerNormalization", [f(2, 3, 4), f(4), f(4)], {"epsilon": 1e-6}),
    Case("LayerNormalization", [f(2, 3, 4), f(3, 4)], {"axis": 1}),
]
LINEAR = [
    Case("MatMul", [f(2, 3), f(3, 4)]),
    Case("MatMul", [f(2, 1, 3, 4), f(5, 4, 2)]),
    Case("MatMul", [f(3), f(3, 4)]),
    Case("Gemm", [f(2, 3), f(3, 4), f(4)]),
    Case("Gemm", [f(3, 2), f(4, 3)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    Case("Gemm", [f(2, 3), f(3, 4), f(2, 1)], {"beta": 2.0, "alpha": 0.5}),
    Case("Conv", [f(2, 4, 8), f(6, 4, 3), f(6)], {"kernel_shape": [3]}),
    Case("Conv", [f(2, 3, 8, 9), f(4, 3, 2, 3)], {"strides": [2, 3], "kernel_shape": [2, 3]}),
    Case(
        "Conv",
        [f(1, 4, 7, 7), f(4, 2, 3, 3), f(4)],
        {"group": 2, "pads": [1, 0, 2, 1], "dilations": [1, 2], "kernel_shape": [3, 3]},
    ),
    Case("BatchNormalization", [f(2, 3, 4, 4), f(3), f(3), f(3), POSITIVE[0]], {"epsilon": 1e-3}),
    Case("GlobalAveragePool", [f(2, 3, 4, 5)]),
    Case(
        "MaxPool",
        [f(1, 2, 7, 7)],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    Case("Einsum", [f(2, 3, 4), f(2, 4, 5)], {"equation": "bij,bjk->bik"}),
]
SHAPE = [
    Case("Concat", [f(2, 3), f(2, 1), f(2, 2)], {"axis": -1}),
    Case("Constant", [], {"value": numpy_helper.from_array(f(2, 3))}),
    Case("Constant", [], {"value_ints": [1, 2]}),
    Case("Constant", [], {"value_float": 0.5}),
    Case("ConstantOfShape", [i(2, 3)]),
    Case("ConstantOfShape", [i(2)], {"value": numpy_helper.from_array(i(7))}),
    Case("Expand", [f(3, 1), i(2, 1, 4)]),
    Case("Expand", [f(3, 4), i(3, 1)]),
    Case("Flatten", [f(2, 3, 4)]),
    Case("Flatten", [f(2, 3, 4)], {"axis": -1}),
    Case("Flatten", [f(2, 3)], {"axis": 0}),
    Case("Pad", [f(2, 3), i(0, 1, 2, 0), scalar(9, "float32")]),
    Case("Pad", [f(2, 3), i(1, 2), None, i(-1)]),
    Case("Range", [scalar(1), scalar(9), scalar(3)]),
    Case("Range", [scalar(1, "float32"), scalar(0, "float32"), scalar(-0.25, "float32")]),
    Case("Reshape", [f(2, 3, 4), i(0, -1)]),
    Case("Reshape", [f(0, 3), i(3, 0)], {"allowzero": 1}),
    Case("Shape", [f(2, 3, 4)]),
    Case("Shape", [f(2, 3, 4)], {"start": 1, "end": -1}),
    Case("Size", [f(2, 3, 4)]),
    Case("Split", [f(2, 6)], {"axis": 1, "num_outputs": 3}, 3),
    Case("Split", [f(5, 2)], {"num_outputs": 2}, 2),
    Case("Split", [f(2, 6), i(1, 5)], {"axis": -1}, 2),
    Case("Squeeze", [f(1, 3, 1), i(0)]),
    Case("Squeeze", [f(1, 3, 1), i(-1, 0)]),
    Case("Squeeze", [f(1, 3, 1)]),
    Case("Tile", [f(2, 3), i(2, 2)]),
    Case("Transpose", [f(2, 3, 4)], {"perm": [2, 0, 1]}),
    Case("Transpose", [f(2, 3, 4)]),
    Case("Trilu", [f(3, 4)]),
    Case("Trilu", [f(3, 4), scalar(-1)], {"upper": 0}),
    Case("Unsqueeze", [f(2, 3), i(0, -1)]),
]
INDEXING = [
    Case("Gather", [f(4, 3), i(0, -1, 2)]),
    Case("Gather", [f(4, 3), np.array([[0, 1], [2, -3]], np.int64)], {"axis": 1}),
    Case("Gather", [f(4, 3), scalar(-1)], {"axis": -1}),
    Case("Gather", [f(2, 3), np.array([1], np.int32)]),
    Case("GatherElements", [f(3, 3), np.array([[0, -1, 1]], np.int64)]),
    Case("GatherElements", [f(2, 3), np.array([[0], [-1]], np.int64)], {"axis": 1}),
    Case("GatherND", [f(2, 3, 4), np.array([[0, 1], [1, 2]], np.int64)]),
    Case("ScatterND", [f(4, 2), np.array([[1], [3]], np.int64), f(2, 2)]),
    Case("NonZero", [np.array([[1, 0], [2, 3]], np.float32)]),
    Case("Slice", [f(5, 6), i(1), i(4)]),
    Case("Slice", [f(5, 6), i(-3, 1), i(100, -1), i(1, 0)]),
    Case("Slice", [f(5, 6), i(0, 0), i(5, 6), i(0, 1), i(2, 3)]),
    Case("Slice", [f(5, 6), i(-1), i(-100), i(0), i(-2)]),
    Case("Slice", [f(5, 6), i(3), i(0), i(1), i(-1)]),
    Case("Slice", [f(5, 6), i(4), i(2), i(0)]),
]
CASES = [*ELEMENTWISE, *REDUCTION, *LINEAR, *SHAPE, *INDEXING]


def _model(case: Case) -> onnx.ModelProto:
    names = [f"in{place}" for place in range(len(case.inputs))]
    results = [f"out{place}" for place in range(case.outputs)]
    used = [
        name if value is not None else "" for name, value in zip(names, case.inputs, strict=True)
    ]
    node = helper.make_node(case.operator, used, results, **case.attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for name, v in zip(names, case.inputs, strict=True)
            if v is not None
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in results],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("place", range(len(CASES)), ids=lambda at: f"{CASES[at].operator}-{at}")
def test_operator_is_that_of_the_standard(place: int) -> None:
    case = CASES[place]
    model = _model(case)
    inputs = {f"in{at}": value.copy() for at, value in enumerate(case.inputs) if value is not None}
    with np.errstate(invalid="ignore", over="ignore"):
        expected = ReferenceEvaluator(model).run(None, inputs)
    found = Graph(model).run(inputs)
    for name, wanted in zip(found, expected, strict=True):
        assert found[name].dtype == np.asarray(wanted).dtype
        assert found[name].shape == np.asarray(wanted).shape
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-6)
    for at, value in enumerate(case.inputs):
        if value is not None:
            np.testing.assert_array_equal(inputs[f"in{at}"], value, "an input was written to")


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("case", "what"),
    [
        (Case("Det", [f(2, 2)]), "Det"),
        (Case("Cast", [f(2)], {"to": TensorProto.STRING}), "Cast to ONNX data type 8"),
        (Case("Conv", [f(1, 1, 4), f(1, 1, 3)], {"auto_pad": "SAME_UPPER"}), "SAME_UPPER"),
        (Case("Pad", [f(2), i(1, 1)], {"mode": "reflect"}), "mode='reflect'"),
        (Case("CumSum", [f(2), scalar(0)], {"reverse": 1}), "reverse=1"),
    ],
)
def test_what_is_not_implemented_is_named(case: Case, what: str, tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    onnx.save(_model(case), file)
    with pytest.raises(BundleError, match=rf"'layer\.01' has the operator .*{what}"):
        load_graph("layer.01", file)
