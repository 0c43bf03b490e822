"""The whole model behind LitServe, with its dynamic batching."""

import litserve
from peer_model import PeerModel, PeerSettings, Prepared


class Api(litserve.LitAPI):
    """Decodes and answers in LitServe's worker process, batch by batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002 (the framework's signature)
        """Load the model."""
        self.model = PeerModel(PeerSettings.read())
        self.model.warm_up()

    def decode_request(self, request: dict[str, str]) -> Prepared:
        """Return the request as numbers."""
        prepared: Prepared = self.model.prepare(request["image"], request["text"])
        return prepared

    def batch(self, inputs: list[Prepared]) -> list[Prepared]:
        """Leave the batch as it is: the model pads it."""
        return list(inputs)

    def predict(self, inputs: list[Prepared]) -> list[dict[str, object]]:
        """Answer a batch."""
        answers: list[dict[str, object]] = self.model.answer(inputs)
        return answers

    def unbatch(self, output: list[dict[str, object]]) -> list[dict[str, object]]:
        """Leave the answers as they are."""
        return output

    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        """Leave the answer as it is."""
        return output


if __name__ == "__main__":
    settings = PeerSettings.read()
    api = Api(max_batch_size=settings.max_batch_size, batch_timeout=settings.batch_timeout_s)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        host="127.0.0.1",
        port=settings.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
