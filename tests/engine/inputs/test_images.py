"""Images: what is decoded, how, and what is refused with which words."""

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from exeunt.engine import InputLimits
from exeunt.engine.bundle.inputs import ImageSpec
from exeunt.engine.errors import ImageError
from exeunt.engine.inputs import ImageProcessor, decode_image
from exeunt.engine.inputs.image import checked_image

LIMITS = InputLimits()
PIXELS = np.random.default_rng(3).integers(0, 256, (12, 10, 3)).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)
OTHER = Image.fromarray(255 - PIXELS)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG with any header, right or not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def sixteen_bit(colour: int, channels: int) -> bytes:
    return png(3, 2, 16, colour, (b"\0" + b"\x12\x34" * 3 * channels) * 2)


def moving(kind: str) -> bytes:
    first, second = (
        (PICTURE, OTHER) if kind != "GIF" else (PICTURE.convert("P"), OTHER.convert("P"))
    )
    return saved(first, kind, save_all=True, append_images=[second])


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_lossless_file_keeps_every_pixel(kind: str) -> None:
    np.testing.assert_array_equal(np.asarray(decode_image(saved(PICTURE, kind), LIMITS)), PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_kinds_become_rgb(kind: str) -> None:
    image = decode_image(saved(PICTURE, kind), LIMITS)
    assert (image.mode, image.size) == ("RGB", PICTURE.size)


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "text": (b"not an image at all", "recognised"),
    "HTML": (b"<html><body>404</body></html>", "recognised"),
    "TIFF": (saved(PICTURE, "TIFF"), "recognised"),
    "no pixels": (png(0, 0, 8, 2, b""), "recognised|0 x 0"),
    "PNG cut short": (saved(PICTURE)[:-30], "damaged or truncated"),
    "PNG header only": (saved(PICTURE)[:33], "damaged or truncated|recognised"),
    "JPEG cut short": (saved(PICTURE.resize((64, 64)), "JPEG")[:-400], "damaged or truncated"),
    "PNG with a wrong checksum": (
        saved(PICTURE).replace(b"IDAT", b"IDAT\xff", 1),
        "damaged or truncated|recognised",
    ),
    "animated GIF": (moving("GIF"), "animated"),
    "animated WebP": (moving("WEBP"), "animated"),
    "animated PNG": (moving("PNG"), "animated"),
    "100 megapixels": (png(10_000, 10_000, 8, 2, b""), "24000000 pixels"),
    "a bomb": (png(60_000, 60_000, 8, 2, b""), "pixels"),
    "a long side": (png(20_000, 1, 8, 2, b""), "16384 a side"),
    "CMYK": (saved(PICTURE.convert("CMYK"), "JPEG"), "CMYK.*convert"),
    "16-bit grey": (sixteen_bit(0, 1), "16 bits"),
    "16-bit RGB": (sixteen_bit(2, 3), "16 bits"),
    "16-bit grey with alpha": (sixteen_bit(4, 2), "16 bits"),
    "16-bit RGBA": (sixteen_bit(6, 4), "16 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_the_reason(name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(ImageError, match=reason):
        decode_image(content, LIMITS)


def test_a_large_header_is_refused_before_memory_is_taken() -> None:
    content = png(10_000, 10_000, 8, 2, b"")
    started_s = time.perf_counter()
    for _ in range(50):
        with pytest.raises(ImageError):
            decode_image(content, LIMITS)
    assert time.perf_counter() - started_s < 2.0, "300 MB each would take longer"


def test_a_long_animation_is_refused_without_counting_its_frames() -> None:
    start = saved(Image.new("P", (1, 1)), "GIF")[:-1]
    frame = start[start.index(b",") :]
    content = start + frame * 700_000 + b";"
    started_s = time.perf_counter()
    with pytest.raises(ImageError, match="animated"):
        decode_image(content, LIMITS)
    assert time.perf_counter() - started_s < 0.5, "counting them takes longer"


def test_limits_are_the_configured_ones() -> None:
    content = saved(PICTURE)
    for limits in (
        InputLimits(max_image_bytes=len(content) - 1),
        InputLimits(max_image_pixels=119),
        InputLimits(max_image_side=11),
    ):
        with pytest.raises(ImageError):
            decode_image(content, limits)
    exact = InputLimits(max_image_bytes=len(content), max_image_pixels=120, max_image_side=12)
    assert decode_image(content, exact).size == (10, 12)


def test_transparent_pixels_lie_over_white() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0], rgba[0, :, 3] = 200, (0, 128, 255)
    image = np.asarray(decode_image(saved(Image.fromarray(rgba)), LIMITS))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 1].tolist() == pytest.approx([227, 127, 127], abs=1)
    assert image[0, 2].tolist() == [200, 0, 0]


def test_a_transparent_palette_colour_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    for transparency in (0, b"\x00\xff"):
        pixels = np.asarray(decode_image(saved(image, transparency=transparency), LIMITS))
        assert pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]]
    pixels = np.asarray(decode_image(saved(image), LIMITS))
    assert pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_one_bit_and_grey_become_rgb() -> None:
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    assert np.asarray(decode_image(saved(bits), LIMITS)).tolist() == [[[0] * 3, [255] * 3]]
    grey = Image.new("L", (1, 1), 77)
    assert np.asarray(decode_image(saved(grey), LIMITS)).tolist() == [[[77] * 3]]


@pytest.mark.parametrize(("orientation", "turned"), [(3, Image.Transpose.ROTATE_180), (6, 4)])
def test_a_photograph_stands_upright(orientation: int, turned: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(PICTURE, exif=exif.tobytes())
    expected = PICTURE.transpose(Image.Transpose(turned))
    np.testing.assert_array_equal(np.asarray(decode_image(content, LIMITS)), np.asarray(expected))


def test_a_cameras_multi_picture_file_is_its_first_picture() -> None:
    content = saved(PICTURE, "MPO", save_all=True, append_images=[OTHER])
    image = np.asarray(decode_image(content, LIMITS)).astype(int)
    assert np.abs(image - PIXELS).mean() < np.abs(image - (255 - PIXELS.astype(int))).mean()


SEEDS = [
    *(saved(PICTURE, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF")),
    *(moving(kind) for kind in ("GIF", "PNG")),
]


@given(
    content=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    end=st.floats(0.2, 1),
)
def test_a_damaged_file_is_decoded_or_refused_and_nothing_else(
    content: bytes, changes: list[tuple[float, int]], end: float
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    try:
        image = decode_image(bytes(damaged[: int(end * len(damaged))]), LIMITS)
    except ImageError:
        return
    assert image.mode == "RGB"


def test_many_threads_decode_at_once() -> None:
    contents = [saved(PICTURE), png(10_000, 10_000, 8, 2, b"")] * 40

    def one(content: bytes) -> bool:
        try:
            decode_image(content, LIMITS)
        except ImageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, contents)) == [True, False] * 40


def test_pixels_are_scaled_and_normalised() -> None:
    spec = ImageSpec(size=(12, 10), mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
    tensor = ImageProcessor(spec)(PICTURE)
    assert tensor.shape == (3, 12, 10)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    expected = (PIXELS.transpose(2, 0, 1) / 255 - [[[0.5]], [[0.4]], [[0.3]]]) / [
        [[0.5]],
        [[0.25]],
        [[0.2]],
    ]
    np.testing.assert_allclose(tensor, expected, atol=1e-5)


def test_the_size_is_height_then_width() -> None:
    assert ImageProcessor(ImageSpec(size=(6, 9)))(PICTURE).shape == (3, 6, 9)


def _repeated(part: bytes, times: int) -> bytes:
    """Return a JPEG with a part repeated before its end."""
    whole = saved(PICTURE, "JPEG", progressive=True)
    return whole[:2] + part * times + whole[2:]


@pytest.mark.parametrize(
    "content",
    [
        _repeated(b"\xff\xe1\x00\x0cExif\0\0AAAA", 5000),
        saved(PICTURE, "JPEG", progressive=True)[:-2]
        + b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00" * 100,
    ],
    ids=["segments", "scans"],
)
def test_a_jpeg_that_costs_minutes_is_refused_at_once(content: bytes) -> None:
    with pytest.raises(ImageError, match="scans"):
        decode_image(content, LIMITS)


def test_a_jpeg_is_judged_by_its_first_picture_alone() -> None:
    whole = saved(PICTURE, "JPEG", progressive=True, icc_profile=bytes(300_000))
    assert decode_image(whole + b"\xff\xda" * 10_000, LIMITS).size == PICTURE.size


def _closed() -> Image.Image:
    image = PICTURE.copy()
    image.close()
    return image


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (Image.new("RGB", (0, 5)), "0 x 5 pixels"),
        (Image.new("CMYK", (5, 5)), "CMYK"),
        (Image.new("L", (LIMITS.max_image_side + 1, 1)), "scale it down"),
        (Image.open(io.BytesIO(saved(PICTURE)[:200])), "truncated"),
        (_closed(), "closed"),
    ],
)
def test_a_pil_image_is_held_to_the_same_rules(image: Image.Image, word: str) -> None:
    with pytest.raises(ImageError, match=word):
        checked_image(image, LIMITS)
