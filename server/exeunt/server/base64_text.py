"""Base64: how bytes travel in JSON."""

import base64
import binascii

from exeunt.server.errors import MalformedBody

# The URL-safe alphabet is taken too; line breaks, as `base64` prints them, are skipped.
_ALPHABET = str.maketrans({"-": "+", "_": "/", "\n": None, "\r": None})


def decode_base64(text: str, what: str) -> bytes:
    """Return the bytes of a base64 text or a `data:` URL, in either alphabet.

    Args:
        text: in base64.
        what: it is, in the words of an error.

    Raises:
        MalformedBody: it is not base64.
    """
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise MalformedBody(
                f"{what}: the data URL is not of the form data:image/png;base64,..."
            )
    try:
        return base64.b64decode(text.translate(_ALPHABET), validate=True)
    except (binascii.Error, ValueError):  # ValueError: letters that are not ASCII
        raise MalformedBody(
            f"{what} is not valid base64: send the whole of it in base64, with its padding"
        ) from None
