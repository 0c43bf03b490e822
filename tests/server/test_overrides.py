"""Per-request criteria and thresholds, only where the configuration allows them."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.server.serving import TEXT, Served, png, serving

pytestmark = pytest.mark.anyio

ALL = {"criteria": ["entropy", "patience", "confidence", "cosine", "never"], "thresholds": True}


async def _ask(served: Served, **override: Any) -> Any:
    image = base64.b64encode(png(3)).decode()
    return await served.client.post("/predict", json={"image": image, "text": TEXT, **override})


@pytest.mark.parametrize(
    ("override", "criterion", "threshold", "exit_layer"),
    [
        ({"criterion": "never"}, "never", None, 6),
        ({"threshold": 0.0}, "entropy", 0.0, 6),
        ({"threshold": 5.0}, "entropy", 5.0, 1),
        ({"threshold": [0, 0, 5, 5, 5, 5]}, "entropy", 5.0, 3),
        ({"criterion": "entropy"}, "entropy", 0.5, None),
        ({"criterion": "patience", "threshold": 2}, "patience", 2.0, None),
        ({"criterion": "confidence", "threshold": 0.0}, "confidence", 0.0, 1),
    ],
)
async def test_an_allowed_override(
    override: dict[str, Any],
    criterion: str,
    threshold: float | None,
    exit_layer: int | None,
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, server={"overrides": ALL}) as served:
        response = await _ask(served, **override)
        assert response.status_code == 200, response.text
        body = response.json()
        assert (body["criterion"], body["threshold"]) == (criterion, threshold)
        assert exit_layer is None or body["exit_layer"] == exit_layer
        assert body["policy_version"] == 7
        assert (await _ask(served)).json()["criterion"] == "entropy"


@pytest.mark.parametrize(
    ("override", "error_type"),
    [
        ({"criterion": "margin", "threshold": 0.5}, "override_refused"),
        ({"criterion": "confidence", "threshold": 2.0}, "invalid_request"),
        ({"criterion": "confidence"}, "invalid_request"),
        ({"criterion": "never", "threshold": 1.0}, "invalid_request"),
        ({"criterion": "patience", "threshold": 1.5}, "invalid_request"),
        ({"threshold": -1.0}, "invalid_request"),
        ({"threshold": [1.0, 2.0]}, "exit_policy"),
        ({"threshold": []}, "invalid_request"),
    ],
)
async def test_a_wrong_override(override: dict[str, Any], error_type: str, tmp_path: Path) -> None:
    async with serving(tmp_path, server={"overrides": ALL}) as served:
        response = await _ask(served, **override)
        assert response.json()["error_type"] == error_type, response.text
        assert response.status_code == (403 if error_type == "override_refused" else 422)
        assert (await _ask(served)).status_code == 200


async def test_a_wrong_override_says_what_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"overrides": ALL}) as served:
        response = await _ask(served, criterion="never", threshold=1.0)
        said = "the override does not work: `never` takes no threshold: remove it"
        assert response.json()["error"] == said


async def test_criteria_and_thresholds_are_allowed_apart(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"overrides": {"criteria": ["never"]}}) as served:
        assert (await _ask(served, criterion="never")).status_code == 200
        assert (await _ask(served, threshold=0.1)).status_code == 403
    async with serving(tmp_path, server={"overrides": {"thresholds": True}}) as served:
        assert (await _ask(served, threshold=0.1)).status_code == 200
        assert (await _ask(served, criterion="never")).status_code == 403


async def test_a_form_can_override_too(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"overrides": ALL}) as served:
        response = await served.client.post(
            "/predict",
            files={"image": ("a.png", png(3))},
            data={"text": TEXT, "criterion": "entropy", "threshold": "5"},
        )
        assert response.json()["exit_layer"] == 1
