"""The whole model behind BentoML, with its adaptive batching.

A batched endpoint takes a list, from which the framework makes its batches: each request is a list
of one.
"""

import bentoml
from peer_model import PeerModel, PeerSettings
from pydantic import BaseModel

settings = PeerSettings.read()


class Sample(BaseModel):
    """A request."""

    image: str
    text: str


@bentoml.service(name="peer", workers=1, traffic={"timeout": 60})
class Peer:
    """Answers batches in a thread beside the event loop."""

    def __init__(self) -> None:
        self.model = PeerModel(settings)
        self.model.warm_up()

    @bentoml.api(
        batchable=True,
        max_batch_size=settings.max_batch_size,
        # A request that would wait longer than this is refused: of use to nobody here.
        max_latency_ms=60_000,
    )
    def predict(self, inputs: list[Sample]) -> list[dict[str, object]]:
        """Answer a batch."""
        return list(self.model.answer([self.model.prepare(one.image, one.text) for one in inputs]))
