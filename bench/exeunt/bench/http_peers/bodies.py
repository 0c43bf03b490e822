"""Requests as bodies, and answers as readings, of our server and of the peers."""

import base64
import json
from collections.abc import Sequence

from exeunt.bench.load.bodies import Body
from exeunt.bench.load.http import HttpClient, HttpTarget
from exeunt.bench.load.outcome import Done, Reading
from exeunt.bench.workloads.pictures import PictureRequest

JSON = "application/json"


def json_bodies(requests: Sequence[PictureRequest], *, listed: bool = False) -> list[Body]:
    """Return the requests as JSON, `{"image": base64, "text": ...}`.

    Args:
        requests: what is to be sent.
        listed: each as a list of one under `inputs`, which is how BentoML takes what it batches.
    """
    bodies = []
    for request in requests:
        sample = {"image": base64.b64encode(request.image).decode("ascii"), "text": request.text}
        bodies.append(Body(json.dumps({"inputs": [sample]} if listed else sample).encode(), JSON))
    return bodies


class AnswerTarget:
    """A server as a target; every server's answer holds a label and its index.

    Args:
        client: connected to it.
        bodies: of each request.
        depth: of the model; an answer that names no exit layer is of full depth.
    """

    def __init__(self, client: HttpClient, bodies: Sequence[Body], depth: int) -> None:
        self._target = HttpTarget(client, bodies)
        self._depth = depth

    def send(self, sample: int, done: Done) -> None:
        """Send a request's body; see `Target.send`."""
        self._target.send(sample, done)

    def abandon(self) -> None:
        """Cancel what is under way."""
        self._target.abandon()

    def generator_cpu_s(self) -> float:
        """Return the CPU seconds of this process, which sends."""
        return self._target.generator_cpu_s()

    def read(self, answer: object) -> Reading:
        """Return what a response's body says; ValueError when it is no answer."""
        content = json.loads(answer) if isinstance(answer, bytes) else None
        if isinstance(content, list) and len(content) == 1:
            content = content[0]
        if not isinstance(content, dict) or not isinstance(content.get("index"), int):
            raise ValueError("the body is no answer: expected a label and its index")
        layer, depth = content.get("exit_layer", self._depth), content.get("depth", self._depth)
        return Reading(
            label=content.get("label"),
            index=content["index"],
            exit_layer=layer,
            depth=depth,
            layers_run=layer,
            layers_possible=depth,
        )
