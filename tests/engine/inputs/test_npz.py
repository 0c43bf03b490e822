"""Files of arrays from anywhere: nothing is unpickled, and no size is believed."""

import io
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy

from exeunt.engine.inputs.regions import RegionsError
from exeunt.engine.inputs.regions.npz import MAX_MEMBERS, read_npz
from tests.support.regions import detected, npz

WANTED = ("features", "norm_bb", "conf")
CAP = 1 << 20
GOOD = npz(**detected(12))


def zipped(kind: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def array_file(shape: Any, data: bytes, dtype: str = "<f4") -> bytes:
    """Return an .npy file of any header, right or not."""
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue() + data


def test_wanted_arrays_are_read_and_no_others() -> None:
    labels = np.array([{"a": 1}], dtype=object)  # would have to be unpickled
    found = read_npz(npz(**detected(12), soft_labels=labels), WANTED, CAP)
    assert set(found) == set(WANTED)
    for name, array in detected(12).items():
        np.testing.assert_array_equal(found[name], array)
    turned = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(read_npz(npz(conf=turned), WANTED, CAP)["conf"], turned)


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no .npz file, or is damaged"),
    "no file of arrays": (b"this is none", "is no .npz file, or is damaged"),
    "cut": (GOOD[: len(GOOD) // 2], "is no .npz file, or is damaged"),
    "objects": (npz(features=np.array([{}], dtype=object)), "of dtype object, expected numbers"),
    "text": (npz(features=np.array(["a"])), "of dtype <U1, expected numbers"),
    "a long array": (npz(features=np.zeros(CAP, np.float16)), "holds 2097280 bytes once unpacked"),
    "arrays that are long together": (
        npz(**{name: np.zeros(CAP // 5, np.float16) for name in WANTED}),
        "bytes once unpacked, at most",
    ),
    "a header that promises more": (
        zipped(features=array_file((1 << 40, 1 << 20), b"1234")),
        "and holds 4",
    ),
    "a header that promises less": (zipped(features=array_file((1,), b"12345")), "and holds 5"),
    "less than nothing": (zipped(features=array_file((-1, -1), b"1234")), "and holds 4"),
    "nested brackets": (
        zipped(features=b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000),
        "damaged",
    ),
    "another compression": (
        zipped(zipfile.ZIP_LZMA, features=array_file((1,), b"1234")),
        "neither deflated nor stored",
    ),
    "many members": (
        npz(**{f"a{place}": np.zeros(1) for place in range(MAX_MEMBERS + 1)}),
        f"{MAX_MEMBERS + 1} members, at most {MAX_MEMBERS}",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_wrong_with_a_file_is_named(kind: str) -> None:
    content, says = FILES[kind]
    with pytest.raises(RegionsError, match=says):
        read_npz(content, WANTED, CAP)


def test_a_long_file_is_refused() -> None:
    with pytest.raises(RegionsError, match=f"has {len(GOOD)} bytes, at most {len(GOOD) - 1}"):
        read_npz(GOOD, WANTED, len(GOOD) - 1)


def test_a_small_file_takes_little_memory_whatever_it_unpacks_to() -> None:
    bomb = zipped(features=array_file((1 << 25,), bytes(1 << 25)))
    lying = bytearray(bomb)  # says that it unpacks to 200 bytes
    place = lying.index(b"PK\x01\x02")
    lying[place + 24 : place + 28] = struct.pack("<I", 200)
    for content in (bomb, bytes(lying)):
        assert len(content) < 1 << 16
        tracemalloc.start()
        try:
            with pytest.raises(RegionsError):
                read_npz(content, WANTED, CAP)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 1 << 20


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_read_as_it_was(place: int, value: int) -> None:
    content = GOOD[:place] + bytes([value]) + GOOD[place + 1 :]
    try:
        found = read_npz(content, WANTED, CAP)
    except RegionsError:
        return
    for name, array in found.items():
        np.testing.assert_array_equal(array, detected(12)[name])
