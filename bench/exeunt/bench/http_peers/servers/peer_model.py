"""The whole model behind a peer's framework: decoding, tokenising, padded batches.

Runs in the framework's own environment, where exeunt is not installed.
"""

import base64
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

SETTINGS_VARIABLE = "EXEUNT_BENCH_PEER"
SHORTEST = 8  # words of a text
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PeerSettings:
    """How a peer serves, as the bench writes it into the environment.

    graph: the whole model, which takes `pixel_values`, `input_ids` and `attention_mask`. size:
    height and width of its image, which becomes (value / 255 - mean) / std. words: of the longest
    text. threads: of the model.
    """

    graph: str
    tokenizer: str
    labels: Sequence[str]
    size: Sequence[int]
    mean: float
    std: float
    words: int
    backend: Literal["onnxruntime", "openvino"]
    precision: Literal["fp32", "bf16"]
    threads: int
    max_batch_size: int
    batch_timeout_s: float
    port: int

    @classmethod
    def read(cls) -> "PeerSettings":
        """Return the settings of this process."""
        return cls(**json.loads(os.environ[SETTINGS_VARIABLE]))


@dataclass(frozen=True)
class Prepared:
    """One request. pixels: f32[3, H, W]. ids: of its words."""

    pixels: NDArray[np.float32]
    ids: Sequence[int]


class PeerModel:
    """Prepares requests one by one and answers them in batches, each padded to its longest."""

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self._tokenizer = Tokenizer.from_file(settings.tokenizer)
        self._run = _openvino(settings) if settings.backend == "openvino" else _onnx(settings)

    def prepare(self, image: str, text: str) -> Prepared:
        """Return the request as numbers. image: a file in base64."""
        height, width = self._settings.size
        with Image.open(io.BytesIO(base64.b64decode(image))) as opened:
            picture = opened.convert("RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        values = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)
        gain, offset = 1 / (255 * self._settings.std), -self._settings.mean / self._settings.std
        pixels = values * np.float32(gain) + np.float32(offset)
        return Prepared(pixels, self._tokenizer.encode(text).ids)

    def answer(self, requests: Sequence[Prepared]) -> list[dict[str, object]]:
        """Return each request's label and its index."""
        longest = max(len(request.ids) for request in requests)
        ids = np.zeros((len(requests), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, : len(request.ids)] = request.ids
            mask[row, : len(request.ids)] = 1
        pixels = np.stack([request.pixels for request in requests])
        logits = self._run({"pixel_values": pixels, "input_ids": ids, "attention_mask": mask})
        return [
            {"label": self._settings.labels[index], "index": index}
            for index in logits.argmax(axis=-1).tolist()
        ]

    def warm_up(self) -> None:
        """Run a full batch, under OpenVINO of every length: it compiles for what it first sees."""
        height, width = self._settings.size
        pixels = np.zeros((3, height, width), dtype=np.float32)
        shortest = SHORTEST if self._settings.backend == "openvino" else self._settings.words
        for words in range(self._settings.words, shortest - 1, -1):
            self.answer([Prepared(pixels, [1] * words)] * self._settings.max_batch_size)


def _onnx(settings: PeerSettings) -> Any:  # noqa: ANN401 (libraries without types)
    """Return the graph under ONNX Runtime as it comes, but for the number of threads."""
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        settings.graph, options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: session.run(["logits"], inputs)[0]


def _openvino(settings: PeerSettings) -> Any:  # noqa: ANN401 (libraries without types)
    """Return the graph under OpenVINO, with the properties that the engine's backend sets."""
    # Importing openvino reports to an analytics service, unless its telemetry cannot be found.
    sys.modules["openvino_telemetry"] = cast("Any", None)
    openvino: Any = import_module("openvino")
    properties = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[settings.precision],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": settings.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(settings.graph, "CPU", properties)
    request = compiled.create_infer_request()

    def run(inputs: Tensors) -> NDArray[np.float32]:
        found = request.infer(inputs, share_inputs=True)
        return np.array(found[compiled.output("logits")])

    return run
