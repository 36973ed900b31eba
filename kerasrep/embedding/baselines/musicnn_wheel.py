"""The wheel of musicnn 0.1.0 as an archive that holds a checkpoint.

It is fetched by hand (`fetch_command`), recognised by its checksum, and opened as a zip file; the checkpoint
in it is read with TensorFlow's reader. Nothing of it is installed or executed. Its licence is ISC.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.storage.run_directory import home, user_path

WHEEL_NAME = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
WHEEL_VARIABLE = "MUSICNN_WHEEL"
_MEMBERS = {
    "musicnn/MSD_musicnn/.index": "msd.index",
    "musicnn/MSD_musicnn/.data-00000-of-00001": "msd.data-00000-of-00001",
}

Weights = Mapping[str, NDArray[np.float32]]


def wheel_path() -> Path:
    """Where the wheel is looked for: at or in `MUSICNN_WHEEL`, or in the folder `musicnn` of `home()`."""
    named = os.environ.get(WHEEL_VARIABLE)
    path = user_path(named) if named else home() / "musicnn"
    return path / WHEEL_NAME if path.is_dir() or not named else path


def fetch_command() -> str:
    """The command that puts the wheel where it is looked for."""
    return f"python -m pip download --no-deps --dest {shlex.quote(str(wheel_path().parent))} musicnn==0.1.0"


def check_wheel(path: Path) -> None:
    """Refuse anything but the published wheel.

    Raises:
        DataError: Where it is missing or another file.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"musicnn: {path} cannot be read ({error.strerror}); fetch it with: {fetch_command()}"
        ) from error
    if digest != WHEEL_SHA256:
        raise DataError(
            f"musicnn: {path} is not the published wheel (sha256 {digest[:12]}...); delete it and fetch it "
            f"with: {fetch_command()}"
        )


def read_weights(wheel: Path) -> Weights:
    """Read the variables of the MSD checkpoint; nothing in the wheel is executed.

    Args:
        wheel: As `check_wheel` accepts it.

    Returns:
        Name of the variable, such as `conv2d_1/kernel`, -> float32.

    Raises:
        DataError: Where the checkpoint cannot be read.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="musicnn-") as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member, name in _MEMBERS.items():  # under our names, so that none leads elsewhere
                    (Path(folder) / name).write_bytes(archive.read(member))
            reader = tf.train.load_checkpoint(str(Path(folder) / "msd"))
            names = [name for name in reader.get_variable_to_shape_map() if "Adam" not in name]
            return {name: reader.get_tensor(name) for name in names}
        except (OSError, KeyError, zipfile.BadZipFile, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"musicnn: {wheel}: its checkpoint cannot be read ({reason})") from error
