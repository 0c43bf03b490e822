"""A server in this process, on the fake backend or on a given engine."""

import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from exeunt.engine import Bundle, Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.server.app import create_app
from exeunt.server.service import Service
from exeunt.server.settings import ServerSettings
from tests.support.manifests import fake_bundle, single_stream

LABELS = ("circle", "square", "triangle")
ENTROPY = {
    "version": 7,
    "tasks": {"default": {"joint": {"any": [{"criterion": "entropy", "threshold": 0.5}]}}},
}
TEXT = "what shape is in the image"


@dataclass
class Served:
    """An application over an engine whose segments are the fake backend's."""

    app: FastAPI
    service: Service
    engine: Engine
    backend: FakeBackend
    client: httpx.AsyncClient

    async def ask(self, shade: int = 0, text: str = TEXT) -> httpx.Response:
        """Ask about a picture of one shade."""
        return await self.client.post(
            "/predict", files={"image": ("a.png", png(shade), "image/png")}, data={"text": text}
        )

    async def metrics(self) -> dict[str, float]:
        """Return every sample of a scrape, summed over its labels."""
        text = (await self.client.get("/metrics")).text
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return totals


@asynccontextmanager
async def serving(
    root: Path,
    *,
    server: Mapping[str, Any] | None = None,
    engine: Mapping[str, Any] | None = None,
    layers: int = 6,
    bundle: Callable[[Path], Bundle] | None = None,
) -> AsyncIterator[Served]:
    """Serve a bundle on the fake backend; a single-stream one for an image and a text by default.

    bundle: makes another one, in the directory it is given.
    """
    used = _single(layers, root) if bundle is None else bundle(root)
    backend = FakeBackend()
    with Engine.open(used, engine, backend=backend) as opened:
        service = Service(opened)
        app = create_app(service, ServerSettings.model_validate(server or {}))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield Served(app, service, opened, backend, client)
        backend.delay_s = 0.0


def _single(layers: int, root: Path) -> Bundle:
    manifest = single_stream(
        layers, len(LABELS), labels=LABELS, with_inputs=True, exit_policy=ENTROPY
    )
    return fake_bundle(manifest, root)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as a file's bytes."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(shade: int = 0) -> bytes:
    """Return a small PNG of one shade."""
    return encoded(Image.new("RGB", (8, 8), (shade, (shade * 7) % 256, 255 - shade)))
