"""Checkpoints by their name on Hugging Face's hub, downloaded once and kept in its cache."""

import re
from pathlib import Path

from exeunt.export.errors import ExportError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What export reads of a checkpoint, with the first of the weights that is there. A pickle is read
# without running what is in it.
FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def local_checkpoint(source: Path) -> Path:
    """Return the directory of a checkpoint, which is downloaded when `source` is no path here.

    Args:
        source: a directory, or the name of a model on the hub, such as `org/name`.

    Returns:
        `source` itself where it exists or cannot be a name; else a directory in the hub's cache.

    Raises:
        ExportError: the hub cannot be reached, or has no such checkpoint.
    """
    name = source.as_posix()
    if source.exists() or not NAME.fullmatch(name):
        return source
    from huggingface_hub import snapshot_download  # here, since most checkpoints are local
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        for weights in WEIGHTS:
            found = Path(snapshot_download(name, allow_patterns=[*FILES, weights]))
            if (found / weights).is_file():
                return found
    except (RepositoryNotFoundError, HFValidationError):
        raise ExportError(
            f"{name} is no directory here and no model on the hub that may be read without an"
            " invitation: check the spelling, or log in with `hf auth login`"
        ) from None
    except LocalEntryNotFoundError:
        raise ExportError(
            f"{name} is no directory here, and the hub cannot be reached to download the model of"
            f" that name: run `hf download {name} --local-dir DIR` where there is a network, and"
            " export DIR"
        ) from None
    except OSError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{name} cannot be downloaded from the hub: {reason}") from None
    raise ExportError(
        f"{name} on the hub has neither {' nor '.join(WEIGHTS)}: a checkpoint in several files, or"
        " of another library, cannot be read"
    )
