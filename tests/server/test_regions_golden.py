"""Official feature files, posted to a server of an exported checkpoint, answer as official code."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from exeunt.engine import Engine
from exeunt.export.bundle import export_bundle
from exeunt.export.families.options import SourceOptions
from exeunt.server.app import create_app
from exeunt.server.service import Service
from tests.support.goldens import COPIES, EXPECTED, INPUTS, TOLERANCE, read_arrays

pytestmark = pytest.mark.anyio

GOLDEN = COPIES / "uniter_vqa"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The golden's engine, whose words are the numbers of the golden's tokens."""
    root = tmp_path_factory.mktemp("uniter")
    words = json.loads((GOLDEN / "log/model.json").read_text())["vocab_size"]
    tokenizer = Tokenizer(WordLevel({str(place): place for place in range(words)}, unk_token="0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(root / "tokenizer.json"))
    options = SourceOptions(tokenizer=root / "tokenizer.json")
    report = export_bundle(GOLDEN, root / "bundle", options=options)
    with Engine.open(report.out, {"warm_up": False}) as opened:
        yield opened


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Service(engine)))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as one:
        yield one


@pytest.fixture(scope="module")
def samples() -> list[tuple[str, bytes]]:
    """The text and the feature file of each sample."""
    inputs, files = read_arrays(GOLDEN, INPUTS), sorted((GOLDEN / "regions").glob("*.npz"))
    return [
        (
            " ".join(str(token) for token in inputs["input_ids"][row, :length]),
            Path(files[inputs["image_index"][row]]).read_bytes(),
        )
        for row, length in enumerate(inputs["txt_lens"])
    ]


def test_feature_files_become_the_official_logits(
    engine: Engine, samples: list[tuple[str, bytes]]
) -> None:
    expected = read_arrays(GOLDEN, EXPECTED)["logits_final"]
    with engine.reserve(len(samples)) as ticket:
        pending = [
            engine.submit(ticket, {"regions": content, "text": text}) for text, content in samples
        ]
    found = [future.result(timeout=60).logits for future in pending]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


async def test_posted_feature_files_are_answered_with_them(
    client: httpx.AsyncClient, samples: list[tuple[str, bytes]]
) -> None:
    expected = read_arrays(GOLDEN, EXPECTED)["logits_final"]
    files = [("regions", ("a.npz", content)) for _, content in samples]
    response = await client.post(
        "/predict", files=files, data={"text": [text for text, _ in samples]}
    )
    assert response.status_code == 200, response.text
    for answer, logits in zip(response.json(), expected, strict=True):
        found = np.log(list(answer["probabilities"].values()))  # the logits, up to a constant
        np.testing.assert_allclose(found - found.max(), logits - logits.max(), atol=2 * TOLERANCE)
        assert answer["index"] == logits.argmax()
