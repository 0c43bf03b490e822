"""The whole model behind Ray Serve, with `serve.batch`."""

import asyncio
from typing import Any

import ray
from peer_model import PeerModel, PeerSettings, Prepared
from ray import serve

settings = PeerSettings.read()


class Peer:
    """Decodes in threads, and answers batches in another one."""

    def __init__(self, settings: PeerSettings) -> None:
        self.model = PeerModel(settings)
        self.model.warm_up()

    @serve.batch(
        max_batch_size=settings.max_batch_size, batch_wait_timeout_s=settings.batch_timeout_s
    )
    async def answer(self, requests: list[Prepared]) -> list[dict[str, object]]:
        """Answer a batch."""
        return list(await asyncio.to_thread(self.model.answer, requests))

    async def __call__(self, request: Any) -> object:  # noqa: ANN401 (the framework's request)
        """Answer a request."""
        body = await request.json()
        prepared = await asyncio.to_thread(self.model.prepare, body["image"], body["text"])
        return await self.answer(prepared)


if __name__ == "__main__":
    ray.init(
        num_cpus=max(2, settings.threads),
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=True,
        configure_logging=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": settings.port})
    deploy = serve.deployment(
        num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1}
    )
    serve.run(deploy(Peer).bind(settings), route_prefix="/predict", blocking=True)
