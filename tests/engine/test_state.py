"""What a row keeps while it walks: caches, constants, masks; and what the engine lets go of."""

import gc
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine import Engine
from exeunt.engine.bundle.manifest import Manifest
from tests.engine.golden_manifests import uniter_vcr, xvlm_nlvr2
from tests.support.manifests import fake_bundle, head, manifest, segment, state, tensor
from tests.support.manifests import single_stream as fake_single_stream
from tests.support.scripted import Script, ScriptedBackend
from tests.support.tensors import random_tensors
from tests.support.waiting import GatedBackend, eventually

Array = NDArray[Any]
STEPS, CLASSES = 5, 7


def counting_decoder(eos: int) -> Manifest:
    """One layer that keeps every token it has seen in a cache and answers with their sum."""
    lane = {
        "name": "decoder",
        "state": {
            "hidden": state("carried", 1, 2),
            "base": state("constant", 1),
            "seen": state("cache", STEPS, 1),
        },
        "setup": ["prepare"],
        "entry": "embed",
        "layers": ["layer"],
        "heads": {1: "answer"},
        "classes": CLASSES,
        "caches": [{"appended": ["seen"]}],
        "loop": {"start": 1, "eos": eos, "pad": 0, "max_steps": STEPS},
    }
    return manifest(
        "counting",
        {
            "tasks": [{"name": "count", "kind": "generation", "lane": "decoder"}],
            "tensors": {"seed": tensor("float32", 1)},
            "lanes": [lane],
            "segments": {
                "prepare": segment("entry", ["input.seed"], ["base"]),
                "embed": segment("entry", ["loop.token", "base"], ["hidden"]),
                "layer": segment("layer", ["hidden", "seen", "loop.cached"], ["hidden", "seen"]),
                "answer": head(["hidden"]),
            },
        },
    )


def embed(inputs: dict[str, Array]) -> dict[str, Array]:
    token = (inputs["loop.token"] + inputs["base"]).astype(np.float32)
    return {"hidden": np.repeat(token[:, :, None], 2, axis=2)}


def remember(inputs: dict[str, Array]) -> dict[str, Array]:
    new = inputs["hidden"][:, 0, :1]
    held = np.arange(STEPS) < inputs["loop.cached"][:, None]
    total = (inputs["seen"][:, :, 0] * held).sum(axis=1) + new[:, 0]
    return {"hidden": np.repeat(total[:, None, None], 2, axis=2), "seen": new}


def answer(inputs: dict[str, Array]) -> dict[str, Array]:
    return {"head.logits": np.eye(CLASSES)[inputs["hidden"][:, 0, 0].astype(int) % CLASSES] * 9.0}


SCRIPTS: dict[str, Script] = {
    "prepare": lambda inputs: {"base": inputs["input.seed"]},
    "embed": embed,
    "layer": remember,
    "answer": answer,
}


def expected_tokens(seed: int, eos: int) -> tuple[int, ...]:
    tokens: list[int] = []
    seen, token = 0, 1
    while len(tokens) < STEPS:
        seen += token + seed
        token = seen % CLASSES
        tokens.append(token)
        if token == eos:
            break
    return tuple(tokens)


def test_a_cache_lives_from_step_to_step_and_belongs_to_its_own_row() -> None:
    seeds = np.arange(7, dtype=np.float32)[:, None]
    bundle = fake_bundle(counting_decoder(eos=6))
    config = {"max_batch_rows": 4}
    with Engine.open(bundle, config, backend=ScriptedBackend(SCRIPTS)) as engine:
        for _ in range(3):
            found = [one.tokens for one in engine.run({"seed": seeds})]
            assert found == [expected_tokens(seed, 6) for seed in range(7)]
    assert len({len(tokens) for tokens in found}) > 1, "rows at different steps shared batches"


def padded(reads_padding: bool) -> tuple[Manifest, dict[str, Script]]:
    """Return a lane whose padding turns to NaN after the entry; only its mask says which it is."""
    lane = {
        "name": "joint",
        "state": {"hidden": state("carried", "T", 4), "mask": state("constant", "T")},
        "entry": "embed",
        "layers": ["layer", "last"],
        "heads": {1: "answer", 2: "answer"},
        "classes": CLASSES,
        "scores": ["cosine"],
        "compare": {"hidden": None if reads_padding else "mask"},
    }
    parts = {
        "tasks": [{"name": "answer", "kind": "classification", "lane": "joint"}],
        "tensors": {"tokens": tensor("float32", "T", 4), "valid": tensor("int64", "T")},
        "lanes": [lane],
        "segments": {
            "embed": segment("entry", ["input.tokens", "input.valid"], ["hidden", "mask"]),
            "layer": segment("layer", ["hidden", "mask"], ["hidden"]),
            "last": segment("layer", ["hidden", "mask"], ["hidden"]),
            "answer": head(["hidden"]),
        },
    }

    def layer(inputs: dict[str, Array]) -> dict[str, Array]:
        poison = np.where(inputs["mask"][:, :, None] > 0, 0.0, np.nan)
        return {"hidden": (inputs["hidden"] * 2 + poison).astype(np.float32)}

    scripts: dict[str, Script] = {
        "embed": lambda inputs: {
            "hidden": inputs["input.tokens"],
            "mask": inputs["input.valid"].astype(np.float32),
        },
        "layer": layer,
        "last": layer,
        "answer": lambda inputs: {"head.logits": np.eye(CLASSES)[[1] * len(inputs["hidden"])]},
    }
    return manifest("padded", parts), scripts


def test_padding_takes_no_part_in_cosine() -> None:
    random = np.random.default_rng(0)
    tensors = {
        "tokens": random.normal(size=(3, 5, 4)).astype(np.float32),
        "valid": np.asarray([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]),
    }
    policy = {"tasks": {"default": {"joint": {"any": [{"criterion": "cosine", "threshold": 0.9}]}}}}
    for reads_padding, layers in ((False, [1, 1, 1]), (True, [2, 2, 1])):
        contents, scripts = padded(reads_padding)
        backend = ScriptedBackend(scripts)
        config = {"exit_policy": policy}
        with Engine.open(fake_bundle(contents), config, backend=backend) as engine:
            assert [one.exit_layer for one in engine.run(tensors)] == layers


def test_what_is_shared_by_a_group_is_given_to_each_of_its_rows() -> None:
    contents = uniter_vcr()
    tensors = random_tensors(contents, 2)
    seen: list[dict[str, Array]] = []

    def entry(inputs: dict[str, Array]) -> dict[str, Array]:
        seen.append(inputs)
        rows = len(inputs["input.input_ids"])
        return {"hidden": np.zeros((rows, 5, 32), np.float32), "mask": np.ones((rows, 5))}

    scripts: dict[str, Script] = {
        name: (lambda inputs: {"hidden": inputs["hidden"] + 1})
        for name in contents.lane("joint").layers
    }

    def one_logit_a_row(inputs: dict[str, Array]) -> dict[str, Array]:
        assert inputs["hidden"].shape[1:] == (4, 5, 32)
        return {"head.logits": inputs["hidden"].mean(axis=(2, 3)) + np.arange(4)}

    heads = [*contents.lane("joint").heads.values(), "final"]
    scripts |= {"embed": entry, **dict.fromkeys(heads, one_logit_a_row)}
    with Engine.open(fake_bundle(contents), backend=ScriptedBackend(scripts)) as engine:
        answers = engine.run(tensors)
    assert [one.index for one in answers] == [3, 3]
    assert answers[0].logits.tolist() == [4.0, 5.0, 6.0, 7.0]
    images = np.concatenate([inputs["input.img_feat"] for inputs in seen])
    texts = np.concatenate([inputs["input.input_ids"] for inputs in seen])
    np.testing.assert_array_equal(images, np.repeat(tensors["img_feat"], 4, axis=0))
    np.testing.assert_array_equal(texts, tensors["input_ids"].reshape(8, -1))


def test_an_answered_sample_is_let_go_of_without_a_garbage_collection() -> None:
    contents = xvlm_nlvr2()
    tensors = random_tensors(contents, 1)
    with Engine.open(fake_bundle(contents), {"backend": "fake"}) as engine:
        own = {name: array[0].copy() for name, array in tensors.items()}
        held = weakref.ref(own["images"])
        with engine.reserve() as ticket:
            future = engine.submit_tensors(ticket, own)
        del own
        gc.disable()
        try:
            assert future.result(timeout=20).depth == 4
            eventually(lambda: held() is None)
        finally:
            gc.enable()


def test_cancelled_samples_are_let_go_of_while_others_keep_the_engine_busy() -> None:
    contents, backend = fake_single_stream(), GatedBackend()
    with Engine.open(fake_bundle(contents), {"max_batch_rows": 1}, backend=backend) as engine:
        tensors = random_tensors(contents, 8)

        def submit(place: int) -> Any:
            with engine.reserve() as ticket:
                own = {name: array[place].copy() for name, array in tensors.items()}
                return engine.submit_tensors(ticket, own), weakref.ref(own["pixel_values"])

        busy = [submit(place)[0] for place in range(2)]
        assert backend.entered.wait(20)
        gone = []
        for place in range(2, 8):
            future, held = submit(place)
            future.cancel()
            gone.append(held)
        del future
        backend.gate.set()

        def let_go() -> bool:
            busy.append(submit(0)[0])  # the engine never falls idle
            gc.collect()
            return not any(held() is not None for held in gone)

        eventually(let_go)
        for one in busy:
            assert one.result(timeout=20).exit_layer == 6
