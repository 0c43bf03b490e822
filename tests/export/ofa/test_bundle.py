"""The bundle of the golden checkpoint: its parity, and what the engine answers with it."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from exeunt.engine import Engine
from exeunt.engine.exit_policy import ExitPolicy
from exeunt.export.bundle import ExportReport, export_bundle
from tests.support.ofa import GOLDENS, Arrays
from tests.support.ofa_sequential import FILLS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export_bundle(GOLDENS, tmp_path_factory.mktemp("ofa") / "bundle")


@pytest.fixture(scope="module")
def engine(report: ExportReport) -> Iterator[Engine]:
    with Engine.open(report.out, {"warm_up": False}) as opened:
        yield opened


def policy(image: float, text: float, decoder: float, fill: str) -> ExitPolicy:
    def rule(threshold: float, **options: Any) -> dict[str, Any]:
        return {"any": [{"criterion": "cosine", "threshold": threshold, "options": options}]}

    lanes = {"image": rule(image), "text": rule(text)}
    lanes["decoder"] = {**rule(decoder, decay={"schedule": "mue-code"}), "fill": fill}
    return ExitPolicy.model_validate({"tasks": {"default": lanes}})


def test_parity_covers_every_segment(report: ExportReport) -> None:
    random = report.parity.random
    assert set(random.segments) == set(report.manifest.segments)
    assert max(error.max_abs_error for error in random.segments.values()) < 1e-4
    assert set(random.composed) == {"dec.logits"}
    assert report.parity.composed.max_abs_error < 1e-4


def test_rows_are_bit_exact_in_every_batch(report: ExportReport) -> None:
    assert report.parity.batch.bit_exact, report.parity.batch.worst


def test_both_lanes_share_their_layers(report: ExportReport) -> None:
    image, text = (report.manifest.lane(name) for name in ("image", "text"))
    assert image.layers == text.layers
    files = [segment.file for segment in report.manifest.segments.values()]
    assert len(files) == len(set(files)) == len(list((report.out / "segments").iterdir()))


def test_full_depth_is_the_golden_text(engine: Engine, raw: Arrays, expected: Arrays) -> None:
    engine.replace_exit_policy(ExitPolicy())
    for row, answer in enumerate(engine.run(raw)):
        tokens = expected["dec_tokens"][row]
        assert list(answer.tokens) == tokens[tokens >= 0].tolist()
        assert set(answer.token_exit_layers) == {3}


@pytest.mark.parametrize("variant", FILLS)
@pytest.mark.parametrize("place", [0, 1])
def test_the_engine_exits_where_the_official_code_does(
    engine: Engine, raw: Arrays, expected: Arrays, place: int, variant: str
) -> None:
    image, text, decoder = expected["thresholds_img_txt_dec"][place].tolist()
    engine.replace_exit_policy(policy(image, text, decoder, FILLS[variant]))
    at = f"_t{place + 1}"
    for row, answer in enumerate(engine.run(raw)):
        lanes = [answer.lanes[lane].exit_layer for lane in ("image", "text")]
        assert lanes == expected[f"enc_exit_img_txt{at}"][row].tolist()
        tokens = expected[f"dec_tokens{at}{variant}"][row]
        exits = expected[f"dec_exit{at}{variant}"][row]
        assert list(answer.tokens) == tokens[tokens >= 0].tolist()
        assert list(answer.token_exit_layers) == exits[tokens >= 0].tolist()


def test_a_row_alone_is_the_row_among_others(engine: Engine, raw: Arrays, expected: Arrays) -> None:
    image, text, decoder = expected["thresholds_img_txt_dec"][0].tolist()
    engine.replace_exit_policy(policy(image, text, decoder, "propagate"))
    together = engine.run(raw)
    for row, answer in enumerate(together):
        alone = engine.run({name: array[row : row + 1] for name, array in raw.items()})[0]
        assert alone.tokens == answer.tokens
        assert alone.token_exit_layers == answer.token_exit_layers
        np.testing.assert_array_equal(alone.logits, answer.logits)


def test_the_probe_walks_the_first_step(engine: Engine, raw: Arrays, expected: Arrays) -> None:
    probe = engine.probe(raw)["decoder"]
    assert probe.final_logits is not None
    np.testing.assert_allclose(probe.final_logits, expected["dec_logits"][:, 0], atol=2e-4)


def test_the_cosine_of_a_lane_is_the_official_one(
    engine: Engine, raw: Arrays, expected: Arrays
) -> None:
    found = engine.probe(raw)
    for lane, suffix in (("image", "img"), ("text", "txt")):
        wanted = expected[f"enc_cos_{suffix}"].T
        np.testing.assert_allclose(found[lane].scores["cosine"], wanted, atol=1e-4)


def test_a_checkpoint_without_a_tokenizer_takes_raw_tensors(report: ExportReport) -> None:
    manifest = report.manifest
    assert manifest.inputs.image is None
    assert manifest.inputs.text is None
    assert set(manifest.tensors) == {"patch_images", "src_tokens", "attention_mask"}
    assert json.loads((report.out / "manifest.json").read_text())["family"] == "ofa"
