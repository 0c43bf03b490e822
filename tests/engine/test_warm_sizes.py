"""Backends that compile kernels for each shape are run at every batch size, within a bound."""

import pytest

from exeunt.engine import Engine, calibration
from exeunt.engine.backends.fake import FakeBackend
from tests.support.manifests import fake_bundle, single_stream


class Compiling(FakeBackend):
    compiles_shapes = True


@pytest.mark.parametrize(("budget_s", "lengths"), [(60.0, 2), (0.0, 1)])
def test_the_longest_samples_are_run_at_every_size_and_shorter_ones_while_there_is_time(
    monkeypatch: pytest.MonkeyPatch, budget_s: float, lengths: int
) -> None:
    monkeypatch.setattr(calibration, "WARM_S", budget_s)
    manifest, backend = single_stream(), Compiling()
    symbols = {d for t in manifest.tensors.values() for d in t.shape if isinstance(d, str)}
    config = {"sizes": dict.fromkeys(symbols, (4, 8)), "max_batch_rows": 7}
    with Engine.open(fake_bundle(manifest), config, backend=backend):
        rows = [count for name, count in backend.calls if name == "embed"]
    # Those that neither costs nor the step's own time are measured with.
    assert {size: rows.count(size) for size in (2, 3, 5, 6)} == dict.fromkeys((2, 3, 5, 6), lengths)
