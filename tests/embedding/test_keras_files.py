"""`.keras` files from elsewhere: what would fill the memory is refused before it is read."""

import io
import resource
import zipfile

import h5py
import numpy as np
import pytest

from kerasrep.embedding.models import load_keras_file
from kerasrep.errors import ExportError


def write(path, config_mebibytes=0, fill=lambda file: None):
    """A `.keras` file with a configuration of zeros; `fill` writes its weights."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        fill(file)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        with archive.open("config.json", "w") as member:
            for _ in range(config_mebibytes):
                member.write(bytes(1 << 20))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def fill_values(file):
    file.create_dataset("layers/dense/vars/0", (1 << 29,), np.float32, chunks=(1 << 20,))


def external(file):
    file.create_dataset("layers/dense/vars/0", (4,), np.float32, external=[("/etc/hostname", 0, 16)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"config_mebibytes": 300}, r"unpacks to 3145\d{5} bytes.*KERASREP_MAX_NPZ_BYTES"),
        ({"fill": fill_values}, r"its arrays take 2147483648 bytes.*KERASREP_MAX_NPZ_BYTES"),
        ({"fill": external}, r"its array 'layers/dense/vars/0' lies in another file; not read"),
    ],
)
def test_a_bomb_is_refused_before_it_is_read(tmp_path, options, words):
    path = write(tmp_path / "bomb.keras", **options)
    assert path.stat().st_size < 3_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ExportError, match=words) as raised:
        load_keras_file(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB; TensorFlow is in it


def test_a_file_without_weights_is_told(tmp_path):
    path = tmp_path / "empty.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ExportError, match=r"is not a usable \.keras file"):
        load_keras_file(path)
