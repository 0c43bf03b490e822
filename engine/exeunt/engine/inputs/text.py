"""Texts: tokenised under caps, padded to a multiple."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from exeunt.engine.bundle.inputs import TextSpec
from exeunt.engine.errors import BundleError, TextError
from exeunt.engine.inputs.limits import InputLimits


class TextProcessor:
    """Turns a text into the token tensors of a bundle's settings.

    Raises:
        BundleError: the tokenizer's file cannot be read.
    """

    def __init__(self, spec: TextSpec, file: Path, limits: InputLimits | None = None) -> None:
        self._spec = spec
        self._limits = limits or InputLimits()
        self._tokenizer = open_tokenizer(file)

    def __call__(self, text: object) -> dict[str, NDArray[Any]]:
        """Return int64 [S] token ids and mask (and zeros as types), S a multiple of the padding.

        Raises:
            TextError: it is no text, empty, over the cap of characters or of tokens, or not
                encodable as UTF-8.
        """
        checked = check_text(text, self._limits)
        ids = self._tokenizer.encode(checked).ids
        if not ids:
            raise TextError("the text has no words: write a question or a statement")
        if len(ids) > self._spec.max_tokens:
            raise TextError(
                f"the text has {len(ids)} tokens, this model takes {self._spec.max_tokens}:"
                " shorten it"
            )
        multiple = self._spec.pad_to_multiple
        # A last partial multiple is cut at the model's own limit.
        length = min(-(-len(ids) // multiple) * multiple, self._spec.max_tokens)
        padded = np.full(length, self._spec.pad_id, dtype=np.int64)
        padded[: len(ids)] = ids
        mask = np.zeros(length, dtype=np.int64)
        mask[: len(ids)] = 1
        tensors: dict[str, NDArray[Any]] = {self._spec.ids: padded, self._spec.mask: mask}
        if self._spec.types:
            tensors[self._spec.types] = np.zeros(length, dtype=np.int64)
        return tensors


def open_tokenizer(file: Path) -> Tokenizer:
    """Return a bundle's tokenizer, which neither pads nor cuts.

    Raises:
        BundleError: the file cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{file} is no tokenizer ({error}): export the bundle again") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check_text(text: object, limits: InputLimits) -> str:
    """Return the text when it can be used.

    Raises:
        TextError: says what is wrong with it.
    """
    if not isinstance(text, str):
        raise TextError(f"the text is of type {type(text).__name__}: send a string")
    if len(text) > limits.max_text_chars:
        raise TextError(
            f"the text has {len(text)} characters, at most {limits.max_text_chars} are taken:"
            " shorten it"
        )
    if not text.strip():
        raise TextError("the text is empty: write a question or a statement")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise TextError("the text holds half a surrogate pair: send valid Unicode") from None
    return text
