"""Regions over HTTP and on the command line, from a file and as arrays."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exeunt.engine import Bundle, Engine, InputLimits
from exeunt.engine.backends.fake import FakeBackend
from exeunt.server.cli import main
from tests.server.serving import LABELS, TEXT, Served, png, serving
from tests.support.manifests import fake_bundle, manifest
from tests.support.regions import FEATURES, detected, npz, regions_parts

pytestmark = pytest.mark.anyio

Array = NDArray[Any]
FOUND = detected(12)
FILE = npz(**FOUND)


def bundle_of(root: Path, rows: int = 1) -> Bundle:
    parts = regions_parts(rows=rows, most=12)
    parts["tasks"][0]["labels"] = LABELS
    return fake_bundle(manifest("regions", parts), root)


@pytest.fixture
async def detecting(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, bundle=bundle_of) as one:
        yield one


def array(values: Array) -> dict[str, object]:
    """Return an array as JSON has it."""
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    text = base64.b64encode(data).decode()
    return {"dtype": str(values.dtype), "shape": list(values.shape), "data": text}


def arrays(found: Mapping[str, Array] = FOUND, **changed: object) -> dict[str, object]:
    body = {"features": array(found["features"]), "boxes": array(found["norm_bb"])}
    return {name: value for name, value in (body | changed).items() if value is not None}


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def test_a_file_and_arrays_answer_alike(detecting: Served) -> None:
    expected = detecting.engine.predict({"regions": FILE, "text": TEXT})
    others = detecting.engine.predict({"regions": npz(**detected(12, 1)), "text": TEXT})
    assert expected.probabilities != others.probabilities
    post = detecting.client.post
    form = await post("/predict", files={"regions": ("a.npz", FILE)}, data={"text": TEXT})
    bodies = [text_of(FILE), arrays(), arrays(conf=array(FOUND["conf"]))]
    bodies += [arrays({name: one.astype(np.float32) for name, one in FOUND.items()})]
    named = [await post("/predict", json={"regions": body, "text": TEXT}) for body in bodies]
    for response in (form, *named):
        assert response.status_code == 200, response.text
        assert response.json()["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)


async def test_several_samples_each_have_regions(detecting: Served) -> None:
    contents = [npz(**detected(5 + n, n)) for n in range(4)]
    expected = [
        detecting.engine.predict({"regions": content, "text": TEXT}).probabilities
        for content in contents
    ]
    samples = [{"regions": text_of(content), "text": TEXT} for content in contents]
    listed = await detecting.client.post("/predict", json=samples)
    files = [("regions", ("a.npz", content)) for content in contents]
    form = await detecting.client.post("/predict", files=files, data={"text": [TEXT] * 4})
    for response in (listed, form):
        assert response.status_code == 200, response.text
        for answer, probabilities in zip(response.json(), expected, strict=True):
            assert answer["probabilities"] == pytest.approx(probabilities, abs=1e-6)
    samples[2]["regions"] = text_of(b"none")
    failed = await detecting.client.post("/predict", json=samples)
    assert failed.status_code == 422
    assert failed.json()["error"].startswith("samples[2]: the regions' file is no .npz file")


async def test_a_sample_of_two_images_has_two(tmp_path: Path) -> None:
    pair = [npz(**detected(3, seed=1)), npz(**detected(6, seed=2))]
    async with serving(tmp_path, bundle=lambda root: bundle_of(root, rows=2)) as served:
        expected = served.engine.predict({"regions": pair, "text": TEXT})
        files = [("regions", ("a.npz", content)) for content in pair]
        form = await served.client.post("/predict", files=files, data={"text": TEXT})
        mixed = [text_of(pair[0]), arrays(detected(6, seed=2))]
        body = await served.client.post("/predict", json={"regions": mixed, "text": TEXT})
        for response in (form, body):
            assert response.status_code == 200, response.text
            answered = response.json()["probabilities"]
            assert answered == pytest.approx(expected.probabilities, abs=1e-6)
        info = (await served.client.get("/info")).json()
        assert info["regions"]["several"] == 2


def nan() -> Array:
    features = FOUND["features"].copy()
    features[7, 1] = np.nan
    return features


REFUSED: dict[str, tuple[object, int, str, str]] = {
    "a number": (3, 422, "invalid_request", "'regions': expected an .npz file in base64, or an"),
    "a list of numbers": ([3], 422, "invalid_request", "'regions.0': expected an .npz file"),
    "no boxes": (arrays(boxes=None), 422, "invalid_request", "'regions.boxes': field required"),
    "an unknown field": (arrays(area=1), 422, "invalid_request", "'regions.area'"),
    "another dtype": (
        arrays(features={"dtype": "float64", "shape": [1, 1], "data": ""}),
        422,
        "invalid_request",
        "'regions.features.dtype': input should be 'float16' or 'float32'",
    ),
    "no base64": ("***", 400, "malformed_body", "the regions' file is not valid base64"),
    "arrays that are no base64": (
        arrays(boxes={"dtype": "float16", "shape": [1, 4], "data": "***"}),
        400,
        "malformed_body",
        "`boxes` of the regions is not valid base64",
    ),
    "too few bytes": (
        arrays(boxes={"dtype": "float16", "shape": [1 << 50, 4], "data": "AAAA"}),
        422,
        "regions",
        "`boxes` holds 3 bytes, expected",
    ),
    "NaN": (arrays(features=array(nan())), 422, "regions", "`features` holds nan at [7, 1]"),
    "no regions": (arrays(detected(0)), 422, "regions", "there are no regions"),
    "too many": (arrays(detected(13)), 422, "regions", "13 regions, this model takes 12"),
    "another detector": (
        arrays(features=array(np.ones((12, FEATURES + 1), np.float32))),
        422,
        "regions",
        "are 7 numbers each, this model takes 6",
    ),
    "pixels without a size": (
        arrays(box_units="pixels"),
        422,
        "regions",
        "send the image's `width` and `height`",
    ),
    "a file that lacks its boxes": (
        text_of(npz(features=FOUND["features"])),
        422,
        "regions",
        "has no ['norm_bb']",
    ),
    "a file of another kind": (text_of(png()), 422, "regions", "is no .npz file"),
    "an address": ("http://x/a.npz", 400, "malformed_body", "not valid base64"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_wrong_is_named(kind: str, detecting: Served) -> None:
    regions, status, error_type, says = REFUSED[kind]
    response = await detecting.client.post("/predict", json={"regions": regions, "text": TEXT})
    assert response.json()["error_type"] == error_type, response.text
    assert response.status_code == status
    assert says in response.json()["error"]
    assert detecting.engine.queued_rows == 0


async def test_a_model_says_what_it_takes(detecting: Served, served: Served) -> None:
    image = await detecting.ask()
    assert image.status_code == 422
    assert "`regions`; docs/regions.md says how" in image.json()["error"]
    regions = await served.client.post("/predict", json={"regions": text_of(FILE), "text": TEXT})
    assert regions.status_code == 422
    assert "takes no `regions`: send ['image', 'text']" in regions.json()["error"]
    assert (await served.client.get("/info")).json()["regions"] is None
    info = (await detecting.client.get("/info")).json()
    assert info["takes"] == ["regions", "text"]
    assert info["regions"] == {
        "feature_size": FEATURES,
        "box_columns": ["x1", "y1", "x2", "y2", "w", "h", "w*h"],
        "box_units": "normalised",
        "max_regions": 12,
        "several": 1,
    }


async def test_the_cap_is_a_setting(tmp_path: Path) -> None:
    limits = {"limits": InputLimits(max_regions_bytes=len(FILE) - 1)}
    async with serving(tmp_path, bundle=bundle_of, engine=limits) as served:
        response = await served.client.post("/predict", files={"regions": ("a.npz", FILE)})
        assert response.json()["error_type"] == "input"  # the text is missing
        response = await served.client.post(
            "/predict", files={"regions": ("a.npz", FILE)}, data={"text": TEXT}
        )
    assert response.status_code == 422
    assert f"at most {len(FILE) - 1} are taken" in response.json()["error"]


async def test_the_document_describes_regions(detecting: Served) -> None:
    document = (await detecting.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert "regions" in schemas["SampleBody"]["properties"]
    assert set(schemas["RegionsBody"]["required"]) == {"features", "boxes"}
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert "regions" in content["multipart/form-data"]["schema"]["properties"]


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that takes regions, which the command line runs on the fake backend."""
    bundle = bundle_of(tmp_path)
    opened = Engine.open

    def open_fake(_: object, config: Any = None) -> Engine:
        return opened(bundle, config, backend=FakeBackend())

    monkeypatch.setattr(Engine, "open", open_fake)
    return tmp_path


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_the_command_line_takes_a_file(on_disk: Path, capsys: Any) -> None:
    file = on_disk / "a.npz"
    file.write_bytes(FILE)
    arguments = ["predict", "--regions", str(file), "--text", TEXT]
    assert _run(*arguments) == 0
    assert "at layer 6 of 6" in capsys.readouterr().out
    assert _run(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["label"] in LABELS
    file.write_bytes(FILE[:-40])
    assert _run(*arguments) == 1
    assert "the regions' file is no .npz file" in capsys.readouterr().err
    assert _run(*arguments[:2], "nothing.npz", "--text", TEXT) == 1
    assert "cannot read the regions nothing.npz" in capsys.readouterr().err


def test_inspect_shows_the_layout(tmp_path: Path) -> None:
    from rich.console import Console

    from exeunt.server.cli.inspect_tables import _inputs

    console = Console(width=200)
    with console.capture() as capture:
        console.print(_inputs(bundle_of(tmp_path).manifest))
    shown = capture.get()
    assert "features of 6 numbers" in shown
    assert "boxes x1, y1, x2, y2, w, h, w*h, normalised" in shown
    assert "at most 12" in shown
