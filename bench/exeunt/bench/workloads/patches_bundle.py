"""The synthetic model that takes an image and a text, written once into the bench's cache."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from exeunt.bench.workloads.cache import bench_cache, making
from exeunt.bench.workloads.config import UniterConfig
from exeunt.bench.workloads.patch_words import PAD_TO_MULTIPLE, words_tokenizer
from exeunt.bench.workloads.uniter_bundle import FORMAT as LAYERS_FORMAT
from exeunt.bench.workloads.uniter_bundle import Progress
from exeunt.engine.backends import Backend
from exeunt.engine.bundle.reader import MANIFEST_FILE, Bundle

FORMAT = 1  # of what is not the layers; to be raised as that of `uniter-base`


def patches_bundle(
    config: UniterConfig,
    *,
    pad_to_multiple: int = PAD_TO_MULTIPLE,
    cache_dir: Path | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the directory of the bundle, which is written at the first call.

    Args:
        config: the model's sizes; `regions` counts the patches of the image.
        pad_to_multiple: what a text is padded to a multiple of; `config.words` gives every text
            one length. Bundles that differ in this alone share their graphs' files.
        cache_dir: see `bench_cache`.
        backend: see `uniter_base_bundle`.
        progress: called with what is being done, steps done and steps in all.

    Raises:
        ConfigError: the patches fill no square image, or the cache cannot be written.
        ExportError: the graphs cannot be written, or parity fails.
    """
    bundle = bench_cache(cache_dir) / f"uniter-patches-f{FORMAT}.{LAYERS_FORMAT}-{config.key}"
    with making(bundle):
        if not (bundle / MANIFEST_FILE).is_file():
            for left in bundle.parent.glob(f".{bundle.name}.export-*"):  # of a process killed
                shutil.rmtree(left, ignore_errors=True)
            _write(config, bundle, backend, progress)
    if pad_to_multiple == PAD_TO_MULTIPLE:
        return bundle
    padded = bundle.with_name(f"{bundle.name}-p{pad_to_multiple}")
    with making(padded):
        if not (padded / MANIFEST_FILE).is_file():
            _pad_otherwise(bundle, padded, pad_to_multiple)
    return padded


def _write(
    config: UniterConfig, bundle: Path, backend: Backend | None, progress: Progress | None
) -> None:
    from exeunt.export.requirements import require_libraries

    require_libraries()
    from exeunt.bench.workloads.patches import patches_plan
    from exeunt.export.alike import AlikeWriter
    from exeunt.export.bundle import write_bundle

    if progress:
        progress("draw the weights", 0, 1)
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = Path(directory) / "tokenizer.json"
        tokenizer.write_text(words_tokenizer(config), encoding="utf-8")
        plan = patches_plan(config, tokenizer)
        write_bundle(
            plan, bundle, layout="both", backend=backend, progress=progress, write=AlikeWriter()
        )


def _pad_otherwise(bundle: Path, padded: Path, pad_to_multiple: int) -> None:
    """Make a bundle of the same files, but for the manifest's padding of texts."""
    shutil.rmtree(padded, ignore_errors=True)
    manifest = json.loads((bundle / MANIFEST_FILE).read_bytes())
    manifest["inputs"]["text"]["pad_to_multiple"] = pad_to_multiple
    shutil.copytree(bundle, padded, copy_function=_link)
    file = padded / MANIFEST_FILE
    file.unlink()  # it is a link: writing to it would change the other bundle
    part = file.with_suffix(".part")
    part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    part.replace(file)
    Bundle.open(padded)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
    return target
