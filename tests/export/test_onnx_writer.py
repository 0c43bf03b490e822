"""Graphs that are not what was planned are refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from exeunt.export.errors import ExportError
from exeunt.export.onnx_writer import write_segment
from exeunt.export.plan import Port, SegmentPlan


class _Double(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value * 2


class _FixedSize(nn.Module):
    """Depends on the number of tokens that it was traced with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, value: Tensor) -> Tensor:
        return value * self.weight


class _ReadsValues(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value if value.sum() > 0 else -value


def _plan(module: nn.Module, output: tuple[int | str, ...] = ("batch", "T")) -> SegmentPlan:
    return SegmentPlan(
        name="layer.01",
        kind="layer",
        module=module,
        inputs=(Port("hidden", "hidden", ("batch", "T")),),
        outputs=(Port("next_hidden", "hidden", output),),
        examples=(torch.ones(3, 5),),
    )


def test_graph_that_depends_on_a_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"segment 'layer\.01'"):
        write_segment(_plan(_FixedSize()), tmp_path / "x.onnx")


def test_module_that_branches_on_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"segment 'layer\.01' cannot be traced"):
        write_segment(_plan(_ReadsValues()), tmp_path / "x.onnx")


def test_outputs_of_another_rank_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has 2 axes, planned"):
        write_segment(_plan(_Double(), ("batch", "T", 4)), tmp_path / "x.onnx")


def test_chatter_of_the_exporter_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_segment(_plan(_Double()), tmp_path / "x.onnx")
    assert capfd.readouterr() == ("", "")
