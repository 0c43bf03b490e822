"""Options that leave a text no way to go on harm their own request alone."""

from functools import partial
from pathlib import Path

import pytest

from tests.server.generating import generating
from tests.server.serving import serving
from tests.server.test_generation import COLD, sample

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_beams_with_nothing_left_to_say_do_not_end_the_engine(tmp_path: Path) -> None:
    # 15 tokens, 20 steps: after 14 different ones nothing but the end token is left, and that is
    # forbidden until min_tokens.
    bundle = partial(generating, "ofa", max_steps=20)
    async with serving(tmp_path, bundle=bundle, engine=COLD) as served:
        options = {"beams": 2, "no_repeat_ngram": 1, "min_tokens": 18}
        await served.client.post("/predict", json=sample(0, **options))
        again = await served.client.post("/predict", json=sample(0))
        assert again.status_code == 200, again.text


async def test_greedy_keeps_its_own_rules_or_says_so(tmp_path: Path) -> None:
    bundle = partial(generating, "ofa", max_steps=20)
    async with serving(tmp_path, bundle=bundle, engine=COLD) as served:
        options = {"no_repeat_ngram": 1, "min_tokens": 18}
        response = await served.client.post("/predict", json=sample(0, **options))
        assert response.status_code == 422
        assert "nothing may follow" in response.json()["error"]
