"""Debian packages: the lock file, getting what is missing, unpacking without installing."""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from archives import unpack_archives
from files import CollectError, read_table, write_text, written_whole

LOG = logging.getLogger("collect")

LOCK_COLUMNS = ("name", "version", "suite", "sha256", "size_bytes", "use")
USES = ("music", "score", "soundfont")
_MIRROR = "http://deb.debian.org/debian"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Package:
    """One row of the lock file.

    Attributes:
        name: Binary package.
        version: With epoch.
        suite: Debian release that has it.
        sha256: Of the `.deb` file.
        size_bytes: Of the `.deb` file.
        use: What is taken out of it: `music`, `score` or `soundfont`.
    """

    name: str
    version: str
    suite: str
    sha256: str
    size_bytes: int
    use: str

    @property
    def source(self) -> str:
        """How tables name it."""
        return f"Debian {self.suite} {self.name} {self.version}"


def read_lock(path: Path) -> list[Package]:
    """Reads the lock file, smallest package first.

    Raises:
        CollectError: A use that nothing is known about.
    """
    packages = []
    for row in read_table(path):
        if row["use"] not in USES:
            raise CollectError(f"{path}: {row['name']}: use is one of {', '.join(USES)}, not {row['use']!r}")
        packages.append(Package(**{**row, "size_bytes": int(row["size_bytes"])}))  # type: ignore[arg-type]
    return sorted(packages, key=lambda package: (package.size_bytes, package.name))


def private_apt(folder: Path, suites: Iterable[str]) -> Path:
    """Writes settings for apt-get that know these suites alone and touch nothing of the system's.

    Returns:
        The file for the environment variable APT_CONFIG.
    """
    folder = folder.absolute()
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    lines = [f"deb [signed-by={_KEYRING}] {_MIRROR} {suite} main contrib" for suite in sorted(set(suites))]
    write_text(folder / "sources.list", "\n".join(lines) + "\n")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/nonexistent",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    write_text(folder / "apt.conf", "".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return folder / "apt.conf"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_deb(folder: Path, package: Package) -> Path | None:
    """The downloaded file of a package, its SHA-256 checked; None where there is none.

    Raises:
        CollectError: A file of that name and size has another content.
    """
    for path in sorted(folder.glob(f"{package.name}_*.deb")):
        if path.stat().st_size == package.size_bytes:
            if _sha256(path) != package.sha256:
                raise CollectError(
                    f"{path}: not the file of the lock (SHA-256 differs); delete it, then again"
                )
            return path
    return None


def download(package: Package, folder: Path, apt_settings: Path) -> bool:
    """Lets apt-get download one version; tells whether it did."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "download", "-q", f"{package.name}={package.version}"]
    environment = {"APT_CONFIG": str(apt_settings), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        LOG.warning("%s: %s", package.name, done.stderr.strip().splitlines()[-1:] or "apt-get failed")
    return done.returncode == 0


def within(packages: Iterable[Package], most_bytes: int) -> list[Package]:
    """The packages, smallest first, whose sizes together stay below a limit."""
    chosen: list[Package] = []
    for package in sorted(packages, key=lambda package: (package.size_bytes, package.name)):
        if sum(other.size_bytes for other in chosen) + package.size_bytes <= most_bytes:
            chosen.append(package)
    return chosen


def unpacked_folder(package: Package, work: Path) -> Path:
    """Where the files of a package lie once unpacked."""
    return work / "unpacked" / f"{package.name}-{package.sha256[:12]}"


def unpack(package: Package, deb: Path, work: Path) -> Path:
    """Unpacks a package and the archives inside it, once."""
    folder = unpacked_folder(package, work)
    if not folder.is_dir():
        with written_whole(folder) as temporary:
            subprocess.run(["dpkg-deb", "-x", str(deb), str(temporary)], check=True)
            unpack_archives(temporary)
    return folder
