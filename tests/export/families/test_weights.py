"""Weights in every format: found, read without running code, and brought to today's names."""

import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from exeunt.export.errors import ExportError
from exeunt.export.families.weights import find_weights, load_pickle, read_state_dict

ONE = {"layer.weight": torch.ones(2, 3), "layer.steps": torch.tensor(4)}


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "ckpt/model_step_7.pt", "model.pt", "state.th", "a-0000.model", "b.ckpt"],
)
def test_pickled_tensors_are_read(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    torch.save(ONE, file)
    found = read_state_dict(tmp_path)
    assert found.file == file
    assert set(found.tensors) == set(ONE)
    assert torch.equal(found.tensors["layer.weight"], ONE["layer.weight"])


def test_safetensors_come_first(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    save_file(ONE, tmp_path / "model.safetensors")
    assert set(read_state_dict(tmp_path).tensors) == set(ONE)


@pytest.mark.parametrize("nest", ["model", "state_dict"])
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_nests_and_wrappers_are_taken_off(nest: str, wrapper: str, tmp_path: Path) -> None:
    inner = {f"{wrapper}{name}": tensor for name, tensor in ONE.items()}
    content = {nest: inner, "epoch": 3, "config": {"lr": 1e-4}, "args": Namespace(seed=1)}
    torch.save(content, tmp_path / "checkpoint.pt")
    assert set(read_state_dict(tmp_path).tensors) == set(ONE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_tensors_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.full((2,), 0.5, dtype=dtype), **ONE}, tmp_path / "model.pt")
    found = read_state_dict(tmp_path).tensors
    assert found["a.weight"].tolist() == [0.5, 0.5]
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        "a.weight": torch.float32,
        "layer.weight": torch.float32,
        "layer.steps": torch.int64,
    }


def test_old_names_of_layer_norms_are_todays(tmp_path: Path) -> None:
    names = ("LayerNorm.gamma", "LayerNorm.beta", "block.gamma_1", "gamma")
    torch.save({name: torch.ones(1) for name in names}, tmp_path / "model.pt")
    found = read_state_dict(tmp_path).tensors
    assert set(found) == {"LayerNorm.weight", "LayerNorm.bias", "block.gamma_1", "gamma"}


def test_of_several_steps_the_last_counts(tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    for step in (9, 100, 20):
        torch.save(ONE, tmp_path / "ckpt" / f"model_step_{step}.pt")
    assert find_weights(tmp_path).name == "model_step_100.pt"


def test_several_files_of_no_order_are_refused(tmp_path: Path) -> None:
    for name in ("best.pt", "last.pt"):
        torch.save(ONE, tmp_path / name)
    with pytest.raises(ExportError, match=r"several files of weights \(best.pt, last.pt\)"):
        find_weights(tmp_path)


def test_namespaces_become_dicts(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    torch.save({"cfg": {"model": Namespace(arch="x", sub=Namespace(n=1))}, "model": ONE}, file)
    content = load_pickle(file)
    assert isinstance(content, dict)
    assert content["cfg"] == {"model": {"arch": "x", "sub": {"n": 1}}}


class Payload:
    """Runs code when it is unpickled, where somebody lets it."""

    ran = False

    def __reduce__(self) -> tuple[Callable[..., None], tuple[()]]:
        return run, ()


def run() -> None:
    Payload.ran = True


def _truncate(file: Path) -> None:
    torch.save(ONE, file)
    file.write_bytes(file.read_bytes()[:-40])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an object": (lambda f: torch.save({"model": ONE, "x": Payload()}, f), "test_weights.run"),
    "an old pickle": (lambda f: f.write_bytes(pickle.dumps(Payload())), "holds pickled objects"),
    "cut off": (_truncate, "is damaged"),
    "empty": (lambda f: f.write_bytes(b""), "is damaged"),
    "a list": (lambda f: torch.save([torch.ones(1)], f), "holds a list: expected tensors by name"),
    "no tensors": (lambda f: torch.save({}, f), "holds nothing"),
    "a number among them": (lambda f: torch.save({**ONE, "lr": 0.1}, f), "'lr' is no tensor"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused_and_nothing_runs(damage: str, tmp_path: Path) -> None:
    write, message = DAMAGES[damage]
    write(tmp_path / "model.pt")
    with pytest.raises(ExportError, match=message):
        read_state_dict(tmp_path)
    assert not Payload.ran


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ExportError, match=r"model.safetensors is damaged"):
        read_state_dict(tmp_path)


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has no weights: expected one of model.safetensors"):
        read_state_dict(tmp_path)
