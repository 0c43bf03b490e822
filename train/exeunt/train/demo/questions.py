"""The questions of the package `easy-vqa` (MIT), with a held-back part of the train images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
QUESTION_LABELS = (*SHAPES, *COLORS, "yes", "no")

CALIBRATION_IMAGES = 400
_HOLD_BACK_SEED = 20_190_415


@dataclass(frozen=True)
class Questions:
    """Questions of a split; row i asks `text[i]` about `images[image[i]]`."""

    images: NDArray[np.uint8]  # [M, 64, 64, 3]
    image: NDArray[np.int64]  # [N]
    text: list[str]
    answer: list[str]

    def __len__(self) -> int:
        """Count the questions."""
        return len(self.text)


def question_kind(answer: str) -> str:
    """Return the kind of a question from its answer: shape, color or boolean."""
    if answer in SHAPES:
        return "question/shape"
    return "question/color" if answer in COLORS else "question/boolean"


def held_back_images(num_images: int) -> frozenset[int]:
    """Return the ids of the train images that are kept for choosing thresholds."""
    order = np.random.default_rng(_HOLD_BACK_SEED).permutation(num_images)
    return frozenset(order[:CALIBRATION_IMAGES].tolist())


def load_questions(split: str) -> Questions:
    """Load the questions of the split `train`, `calibration` or `test`.

    `train` and `calibration` part the package's train *images*, so no image is in both.
    """
    import easy_vqa  # type: ignore[import-untyped]

    if split == "test":
        paths, asked = easy_vqa.get_test_image_paths(), easy_vqa.get_test_questions()
        ids = sorted(paths)
    else:
        paths, asked = easy_vqa.get_train_image_paths(), easy_vqa.get_train_questions()
        held = held_back_images(len(paths))
        ids = sorted(i for i in paths if (i in held) == (split == "calibration"))
    place = {image_id: index for index, image_id in enumerate(ids)}
    rows = [row for row in zip(*asked, strict=True) if row[2] in place]
    return Questions(
        np.stack([_read(paths[i]) for i in ids]),
        np.array([place[row[2]] for row in rows]),
        [row[0] for row in rows],
        [row[1] for row in rows],
    )


def shapes_of_images(questions: Questions) -> NDArray[np.int64]:
    """Return the shape in each image, as its questions tell: index into SHAPES, -1 if none does."""
    shapes = np.full(len(questions.images), -1)
    for image, text, answer in zip(questions.image, questions.text, questions.answer, strict=True):
        named = next((shape for shape in SHAPES if shape in text), None)
        if answer in SHAPES:
            shapes[image] = SHAPES.index(answer)
        elif named and (answer == "yes") != (" not " in text or " no " in text):
            shapes[image] = SHAPES.index(named)
    return shapes


def _read(path: str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
