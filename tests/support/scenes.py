"""A tiny two-task model with random weights, exported: image and text in, words out."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def scenes_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of the kind that `exeunt train scenes` makes, of two layers a lane."""
    import torch

    from exeunt.export.bundle import export_bundle
    from exeunt.export.families.ofa.checkpoint import save_model
    from exeunt.export.families.ofa.model import OfaModel
    from exeunt.train.scenes.options import ScenesRecipe
    from exeunt.train.scenes.recipe import write_settings

    recipe = ScenesRecipe(
        hidden=32, heads=2, ffn=48, encoder_layers=3, decoder_layers=3, stem_planes=(4, 4, 8)
    )
    source = tmp_path_factory.mktemp("scenes") / "checkpoint"
    source.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_model(OfaModel(recipe.model_config_of()).eval(), source)
    write_settings(source)
    out = source.parent / "bundle"
    export_bundle(source, out)
    return out
