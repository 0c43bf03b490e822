"""NumPy's .npz files: named arrays, their sizes checked before memory is taken for them."""

import io
import math
import zipfile
from collections.abc import Collection
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from exeunt.engine.inputs.regions.error import RegionsError

Array = NDArray[Any]

MAX_MEMBERS = 64
_MEMBER = b"PK\x01\x02"  # every entry of a zip file's directory begins so
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SAVE_AGAIN = "write it again with numpy.savez or savez_compressed"


def read_npz(content: bytes, wanted: Collection[str], max_bytes: int) -> dict[str, Array]:
    """Return the arrays of these names that a file holds; no other is unpacked, none unpickled.

    Args:
        content: of the file.
        wanted: names, without `.npy`.
        max_bytes: of the file, and of all wanted arrays once unpacked.

    Raises:
        RegionsError: it is no such file, is damaged, over the cap, or an array is not of numbers.
    """
    if len(content) > max_bytes:
        raise RegionsError(
            f"the regions' file has {len(content)} bytes, at most {max_bytes} are taken: keep"
            " fewer regions, in float16"
        )
    # The directory is counted before it is read: each of its entries would become an object.
    if (members := content.count(_MEMBER)) > MAX_MEMBERS:
        raise RegionsError(
            f"the regions' file has {members} members, at most {MAX_MEMBERS} are taken:"
            f" {_SAVE_AGAIN}"
        )
    try:
        return _read(content, wanted, max_bytes)
    except RegionsError:
        raise
    except Exception as error:  # damaged files raise many types, few of them documented
        raise RegionsError(
            f"the regions' file is no .npz file, or is damaged ({str(error)[:200]}): {_SAVE_AGAIN}"
        ) from None


def _read(content: bytes, wanted: Collection[str], max_bytes: int) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        found = {name: entries[f"{name}.npy"] for name in wanted if f"{name}.npy" in entries}
        unpacked = sum(info.file_size for info in found.values())
        if unpacked > max_bytes:
            raise RegionsError(
                f"the regions' file holds {unpacked} bytes once unpacked, at most {max_bytes} are"
                " taken: keep fewer regions, in float16"
            )
        return {name: _array(archive, name, info) for name, info in found.items()}


def _array(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Array:
    if info.compress_type not in _COMPRESSIONS:
        raise RegionsError(f"`{name}` in the regions' file is neither deflated nor stored")
    with archive.open(info) as member:
        shape, dtype = _header(member)
        rest = info.file_size - member.tell()
    if dtype.kind not in "fiu":
        raise RegionsError(
            f"`{name}` in the regions' file is of dtype {dtype}, expected numbers: {_SAVE_AGAIN}"
        )
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != rest:
        raise RegionsError(
            f"`{name}` in the regions' file declares {list(shape)} numbers of {dtype}, {declared}"
            f" bytes, and holds {rest}: {_SAVE_AGAIN}"
        )
    with archive.open(info) as member:
        array = npy.read_array(member, allow_pickle=False)
        member.read()  # to the end, where the checksum is compared
    return array


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    return shape, dtype
