"""Ask the embedded model from Python: one answer, and what every layer thought."""

from pathlib import Path

from exeunt.engine import Engine

image = (Path(__file__).parent / "shape.png").read_bytes()
sample = {"image": image, "text": "what shape is in the image?"}

with Engine.open() as engine:
    answer = engine.predict(sample)
    print(f"{answer.label} at layer {answer.exit_layer} of {answer.depth} ({answer.criterion})")

    tensors = {name: array[None] for name, array in engine.prepare(sample).items()}
    for layer, entropy in enumerate(engine.probe(tensors)["joint"].scores["entropy"], start=1):
        print(f"layer {layer}: entropy {entropy[0]:.4f}")
