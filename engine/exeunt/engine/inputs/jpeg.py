"""JPEG files: counting their parts before a decoder works through them."""

import re

from exeunt.engine.errors import ImageError

# Any scan can cover the whole image in a few bytes, and Pillow copies what it has of the EXIF block
# for every segment of it: minutes of work in a file of some megabytes.
MAX_SCANS = 64  # a usual progressive file has about 10
MAX_SEGMENTS = 2048

# A stuffed 0xFF of the compressed data, a fill byte and a restart are no segments.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START_OF_SCAN, _END = b"\xda", b"\xd9"
_START_BYTES = 2


def check_jpeg(content: bytes) -> None:
    """Refuse a JPEG file whose parts, up to the end of its first picture, are too many.

    Raises:
        ImageError: it has over `MAX_SCANS` scans or `MAX_SEGMENTS` segments.
    """
    place, scans, segments = _START_BYTES, 0, 0
    while (found := _MARKER.search(content, place)) and found[1] != _END:
        segments += 1
        scans += found[1] == _START_OF_SCAN
        if scans > MAX_SCANS or segments > MAX_SEGMENTS:
            raise ImageError(
                f"the image is a JPEG of over {MAX_SCANS} scans or {MAX_SEGMENTS} segments: save it"
                " again as a baseline JPEG or PNG file"
            )
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
