"""The bundle reader: opens a directory, refuses what is damaged and says how to mend it."""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from exeunt.engine.bundle.manifest import FORMAT, Manifest
from exeunt.engine.errors import BundleError
from exeunt.engine.validation import first_problem

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 64 * 2**20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there and are what the manifest says.

    root: its directory. manifest: what it holds.
    """

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, root: str | Path, *, verify: bool = True) -> "Bundle":
        """Read the manifest of the bundle at `root` and check every file's sha256.

        Args:
            root: a directory that `exeunt export` wrote, or the name of an embedded bundle.
            verify: compare checksums; without it only the files' presence is checked.

        Raises:
            BundleError: names the file that is missing, damaged or of a newer format, and the mend.
        """
        try:
            return cls._open(_located(Path(root)), verify)
        except OSError as error:
            raise BundleError(
                f"cannot read {error.filename} ({error.strerror}): mend its name or permissions"
            ) from None

    @classmethod
    def _open(cls, path: Path, verify: bool) -> "Bundle":
        manifest = _read_manifest(path)
        listed = {segment.file: segment.sha256 for segment in manifest.segments.values()}
        listed |= manifest.files
        for file, sha256 in listed.items():
            _check_file(path, file, sha256 if verify else None)
        return cls(path, manifest)

    def path(self, file: str) -> Path:
        """Return the path of a file of the bundle."""
        return self.root / file


def default_bundle() -> Path:
    """Return the directory of the embedded bundle.

    Raises:
        BundleError: the installed package was built without it.
    """
    path = _embedded() / "demo"
    if not (path / MANIFEST_FILE).is_file():
        raise BundleError(
            "the embedded bundle is not in this installation: install exeunt again, or name a"
            " bundle (exeunt serve BUNDLE)"
        )
    return path


def embedded_bundles() -> list[str]:
    """Return the names of the bundles that come with the package."""
    return sorted(file.parent.name for file in _embedded().glob(f"*/{MANIFEST_FILE}"))


def _embedded() -> Path:
    return Path(str(resources.files("exeunt.engine"))) / "embedded"


def _located(root: Path) -> Path:
    """Return a bundle's directory: a bare name that is no directory here may be an embedded one."""
    if len(root.parts) == 1 and not root.is_dir() and root.name in embedded_bundles():
        return _embedded() / root.name
    return root


def _read_manifest(root: Path) -> Manifest:
    file = root / MANIFEST_FILE
    if not root.is_dir():
        raise BundleError(
            f"{root} is no directory: expected a bundle that `exeunt export` wrote, or one of the"
            f" embedded {embedded_bundles()}"
        )
    if not file.is_file():
        raise BundleError(f"{file} is missing: {root} is no bundle; write one with `exeunt export`")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{file} is over {MAX_MANIFEST_BYTES} bytes: export the bundle again")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is damaged ({error}): copy or export the bundle again") from None
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and not isinstance(found, bool) and found > FORMAT:
        raise BundleError(
            f"{file} has format {found}, this version reads {FORMAT}: upgrade exeunt, or export"
            " the bundle again with this version"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        where, what = first_problem(error)
        raise BundleError(
            f"{file} is not valid at {where or 'the manifest'}: {what}; export the bundle again"
        ) from None


def _check_file(root: Path, file: str, sha256: str | None) -> None:
    path = root / file
    if not path.is_file():
        raise BundleError(f"{path} is missing: copy the whole bundle, or export it again")
    if sha256 is None:
        return
    found = file_sha256(path)
    if found != sha256:
        raise BundleError(
            f"{path} is damaged: its sha256 is {found}, the manifest says {sha256}; copy or export"
            " the bundle again"
        )


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
