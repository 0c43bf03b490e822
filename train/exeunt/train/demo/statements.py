"""Sampling statements about scenes, balanced over the labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.entailment import holds_in_pairs, label_statements
from exeunt.train.demo.scenes import NUM_KINDS, Cells, sample_scenes
from exeunt.train.demo.templates import (
    CHAIN,
    DOUBLE,
    ENTAILMENT,
    LONG_CHAIN,
    MAX_SUBJECTS,
    NUM_SUBJECTS,
    RELATIONS,
    TEMPLATE_SHARES,
    VARIANTS,
    Statements,
)

# Of the kinds that a scene shows, the share that statements about it may name first.
SEEN_SHARE = 0.9


def sample_statements(
    rng: np.random.Generator,
    cells: Cells,
    count: int,
    shares: Sequence[float] = TEMPLATE_SHARES,
) -> Statements:
    """Sample `count` statements about scenes, balanced over the labels within each variant.

    Of the double and chained relations that are not entailed, half hold pair by pair.

    Args:
        rng: what is drawn depends on it alone.
        cells: int8[N, 16], the scenes to choose from.
        count: of statements.
        shares: of the templates, in the order of TEMPLATES; they add up to 1.
    """
    quota = _quotas(count, shares)
    parts: list[Statements] = []
    filled = np.zeros_like(quota)
    while (filled < quota).any():
        open_variants = np.flatnonzero((filled < quota).any(axis=(1, 2)))
        found = _candidates(rng, cells, max(4096, 2 * count), open_variants)
        chosen = cells[found.scene], found.variant, found.subjects, found.relations
        group = (found.variant.astype(np.int64) * 3 + found.label) * 2 + holds_in_pairs(*chosen)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(quota.size))
        rank = np.arange(len(order)) - starts[group[order]]
        keep = order[rank < (quota - filled).ravel()[group[order]]]
        parts.append(found.take(keep))
        filled += np.bincount(group[keep], minlength=quota.size).reshape(quota.shape)
    rows = Statements(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("scene", "variant", "subjects", "relations", "label")
        )
    )
    return rows.take(rng.permutation(count))


def _quotas(count: int, shares: Sequence[float]) -> NDArray[np.int64]:
    """Share `count` out over [variant, label, holds in pairs].

    What rounding leaves goes to the last two variants that have a share.
    """
    quota = np.zeros((len(VARIANTS), 3), dtype=np.int64)
    used = [i for i, entry in enumerate(VARIANTS) if shares[entry[0]] > 0]
    for template, share in enumerate(shares):
        members = [i for i, entry in enumerate(VARIANTS) if entry[0] == template]
        quota[members] = int(count * share) // (3 * len(members))
    for extra in range(count - int(quota.sum())):
        quota[used[-1 - (extra // 3) % min(2, len(used))], extra % 3] += 1
    in_pairs = np.zeros_like(quota)
    joined = np.array([template >= DOUBLE for template, _, _ in VARIANTS])
    in_pairs[joined] = quota[joined] // 2
    in_pairs[joined, ENTAILMENT] = quota[joined, ENTAILMENT]
    return np.stack([quota - in_pairs, in_pairs], axis=2)


def _candidates(
    rng: np.random.Generator, cells: Cells, count: int, variants: NDArray[np.int64]
) -> Statements:
    scene = rng.integers(0, len(cells), size=count)
    variant = variants[rng.integers(0, len(variants), size=count)].astype(np.int8)
    long_chain = np.array(VARIANTS)[variant, 0] == LONG_CHAIN
    seen = np.zeros((len(cells), NUM_KINDS + 2), dtype=bool)
    np.put_along_axis(seen, cells.astype(np.int64) % (NUM_KINDS + 2), True, axis=1)
    # In a scene of few kinds a long chain needs no looking: something that it names is missing.
    rich = np.flatnonzero(seen[:, :NUM_KINDS].sum(axis=1) >= MAX_SUBJECTS - 1)
    if len(rich):
        scene = np.where(long_chain, rich[rng.integers(0, len(rich), size=count)], scene)
    # Mostly kinds that are in the scene: a statement about absent things needs no looking.
    ranked = rng.random((count, NUM_KINDS)).astype(np.float32)
    ranked -= seen[scene, :NUM_KINDS] * (rng.random((count, NUM_KINDS)) < SEEN_SHARE)
    nearest = np.argsort(ranked, axis=1)[:, :MAX_SUBJECTS]
    short = NUM_SUBJECTS[CHAIN]
    subjects: NDArray[np.int8] = np.concatenate(
        [rng.permuted(nearest[:, :short], axis=1), nearest[:, short:]], axis=1
    ).astype(np.int8)
    subjects[long_chain] = rng.permuted(subjects[long_chain], axis=1)
    # No relation twice in a row: a grid has no room for many things left of each other.
    turns = rng.integers(1, len(RELATIONS), size=(count, MAX_SUBJECTS - 1))
    turns[:, 0] = rng.integers(0, len(RELATIONS), size=count)
    relations: NDArray[np.int8] = (turns.cumsum(axis=1) % len(RELATIONS)).astype(np.int8)
    labels = label_statements(cells[scene], variant, subjects, relations)
    return Statements(scene, variant, subjects, relations, labels)


def split_statements(
    split: str, count: int, seed: int, shares: Sequence[float] = TEMPLATE_SHARES
) -> tuple[Cells, Statements]:
    """Make the fixed statements of a split, one scene each.

    Returns:
        The scenes int8[count, 16] and as many statements, row i about scene i.
    """
    rng = np.random.default_rng([seed, sorted(("calibration", "test", "train")).index(split)])
    pool = sample_scenes(rng, count * 2, split)
    table = sample_statements(rng, pool, count, shares)
    return pool[table.scene], table
