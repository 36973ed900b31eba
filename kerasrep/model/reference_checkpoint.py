"""Checkpoints of the published PyTorch code, read without running anything that is in them.

Two forms: the dictionary that `torch.save` wrote (in either of its file formats), read by `torch.load` with
`weights_only=True`; and an NPZ of plain arrays, for machines without PyTorch. Both hold `tasks` (names of the
sources), `branch_at` (`null`, 2, 4, 6 or `fc`) and `n_outs` (logits a head; may be absent); the first holds
the arrays in a dictionary `state_dict`, the second beside them. All else in a checkpoint (the state of the
optimizer, for one) is left alone.

The second is written, where PyTorch is, by

    saved = torch.load("checkpoint.pth.tar", map_location="cpu", weights_only=True)
    arrays = {key: value.numpy() for key, value in saved["state_dict"].items()}
    numpy.savez("weights.npz", tasks=saved["tasks"], branch_at=saved["branch_at"] or "null", **arrays)

and the standardisation, from the scikit-learn scaler of the published code, where that is trusted, by

    numpy.savez("scaler.npz", mean=scaler.mean_, sd=scaler.scale_)

What an archive declares about sizes is checked against its file before anything is allocated.
"""

from __future__ import annotations

import math
import re
import stat
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError, one_line
from kerasrep.model.reference import ReferenceNetwork, from_state_dict
from kerasrep.model.restore import load_scaler
from kerasrep.model.strategies import Scaler
from kerasrep.storage import limits
from kerasrep.storage.run_directory import read_arrays

#: Releases before it can be made to run code even with `weights_only` (CVE-2025-32434).
LEAST_TORCH = (2, 6)
WHAT_A_CHECKPOINT_IS = (
    "the dictionary that torch.save wrote, or an NPZ of its arrays with tasks and branch_at"
)

Form = Literal["npz", "torch", "torch legacy"]

#: The number that files of PyTorch before 1.6 begin with, as a pickle writes it.
_LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_ZIP_MAGIC, _GZIP_MAGIC = b"PK\x03\x04", b"\x1f\x8b"


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """What a checkpoint says.

    Attributes:
        path: The file.
        form: How it was written.
        tasks: Learning sources in the order of the branches, as the published code spells them.
        branch_at: As the file spells it; `None` stands for `null`.
        n_outs: Logits of the heads, or of each head; `None` where the file does not say.
        state_dict: PyTorch's names -> arrays.
    """

    path: Path
    form: Form
    tasks: tuple[str, ...]
    branch_at: int | str | None
    n_outs: int | tuple[int, ...] | None
    state_dict: Mapping[str, NDArray[Any]]

    def build(self, scaler: Scaler | None = None) -> ReferenceNetwork:
        """Build the network; see `reference.from_state_dict`, which says what may be wrong."""
        return from_state_dict(
            self.state_dict,
            self.tasks,
            self.branch_at,
            n_outs=self.n_outs,
            scaler=scaler,
            where=str(self.path),
        )


def read_checkpoint(path: Path) -> ReferenceCheckpoint:
    """Read a checkpoint.

    Raises:
        DataError: Where the file is missing, damaged or no checkpoint, would have to run code, or needs
            PyTorch and there is none.
    """
    form = _form(path)
    if form == "npz":
        values, state = _read_npz(path)
    else:
        values = _load_torch(path, mapped=form == "torch")
        state = _tensor_arrays(path, values["state_dict"])
    tasks = _tasks(path, values)
    return ReferenceCheckpoint(
        path, form, tasks, _branch_at(path, values), _n_outs(path, values, tasks), state
    )


def read_scaler(path: Path) -> Scaler:
    """Read the standardisation of the published network: NPZ with `mean` and `sd` of 128 mel bands, in dB.

    Raises:
        DataError: Where the file is missing or malformed, or a standard deviation is not positive in float32.
    """
    if _regular_head(path, "an NPZ with mean and sd").startswith(_ZIP_MAGIC):
        _check_npz(path)
    try:
        with np.errstate(over="ignore"):
            scaler = load_scaler(path, constants.N_MELS)
    except TypeError:
        raise DataError(f"{path}: 'mean' and 'sd' must be numbers") from None
    if not (np.isfinite(scaler.mean).all() and np.isfinite(scaler.sd).all() and (scaler.sd > 0).all()):
        raise DataError(f"{path}: 'mean' and 'sd' hold values that float32 cannot")
    return scaler


def _form(path: Path) -> Form:
    head = _regular_head(path, WHAT_A_CHECKPOINT_IS)
    if _LEGACY_MAGIC in head:
        return "torch legacy"
    if head.startswith(_GZIP_MAGIC):
        raise DataError(f"{path}: is compressed with gzip; unpack it first (gunzip)")
    if not head.startswith(_ZIP_MAGIC):
        raise DataError(f"{path}: is not a checkpoint; give {WHAT_A_CHECKPOINT_IS}")
    names = [info.filename for info in _members(path)]
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise DataError(f"{path}: is an archive, but no checkpoint; give {WHAT_A_CHECKPOINT_IS}")


def _regular_head(path: Path, wanted: str) -> bytes:
    """First bytes of a regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a fifo would wait for ever
            raise DataError(f"{path}: is not a regular file; give {wanted}")
        with path.open("rb") as file:
            return file.read(32)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read ({reason})") from None


def _members(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: is a damaged archive ({error}); fetch or save it again") from None


def _read_npz(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Plain values, and arrays."""
    _check_npz(path)
    state = read_arrays(path)
    values: dict[str, Any] = {
        name: state.pop(name).tolist() for name in ("tasks", "branch_at", "n_outs") if name in state
    }
    for key in state:
        _check_key(path, key)
    return values, state


def _check_key(path: Path, key: str) -> None:
    if not key.isprintable():
        raise DataError(f"{path}: key '{one_line(key)[:100]}' is not the name of a weight")


def _check_npz(path: Path) -> None:
    """Refuse an NPZ whose arrays are larger than it says, or than any network, or hold objects."""
    infos = _members(path)
    _check_size(path, sum(info.file_size for info in infos))
    try:
        with zipfile.ZipFile(path) as archive:
            for info in infos:
                with archive.open(info) as member:
                    _check_npy(member, info)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    # Damaged archives raise many kinds (BadZipFile, zlib.error, EOFError, RuntimeError, SyntaxError...).
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: is not a usable NPZ file ({reason})") from None


def _check_size(path: Path, n_bytes: int) -> None:
    """Refuse what is larger than a checkpoint: eight whole branches in float64 are 38 million bytes."""
    limit = limits.CHECKPOINT_BYTES
    if n_bytes > limit.value:
        raise DataError(f"{path}: holds {n_bytes:,} bytes, more than {limit.value:,}; {limit.advice}")


def _check_npy(member: IO[bytes], info: zipfile.ZipInfo) -> None:
    version = np.lib.format.read_magic(member)  # type: ignore[no-untyped-call]
    readers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DataError(f"'{info.filename}' is of an unknown version of NumPy's format")
    shape, _, dtype = readers[version](member)
    if dtype.hasobject:
        raise DataError(
            f"'{info.filename}' holds pickled objects, which are never read; save plain arrays, "
            "and None as the word null"
        )
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise DataError(f"'{info.filename}' declares {list(shape)} {dtype}, more than the file holds")


def _load_torch(path: Path, mapped: bool) -> dict[str, Any]:
    """Let PyTorch read a dictionary of tensors and plain values.

    Args:
        path: The file.
        mapped: Map the file into memory instead of reading it: tensors can then not reach beyond it,
            whatever sizes it declares. Possible with archives only.
    """
    _check_size(path, path.stat().st_size)
    torch = _import_torch(path)
    if mapped and sum(info.file_size for info in _members(path)) > path.stat().st_size:
        raise DataError(f"{path}: is damaged, its members declare more bytes than it has; save it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # Damaged and hostile files raise many kinds. PyTorch's advice, to run what is in them, is not repeated.
    except Exception as error:
        raise DataError(f"{path}: {_refusal(error)}") from None
    if not isinstance(loaded, dict) or not isinstance(loaded.get("state_dict"), dict):
        raise DataError(f"{path}: holds no dictionary 'state_dict'; give {WHAT_A_CHECKPOINT_IS}")
    return loaded


def _refusal(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "has a name that is not UTF-8, which PyTorch cannot open; rename it"
    text = " ".join(str(error).split())
    if re.search(r"unsupported|not an allowed|torchscript", text, re.IGNORECASE):
        return (
            "holds more than tensors and plain values, and is not run; save tasks, branch_at, n_outs and "
            "state_dict alone"
        )
    reason = type(error).__name__ if not text or "weights" in text.lower() else text[:150]
    return f"is a damaged checkpoint ({reason}); fetch or save it again"


def _import_torch(path: Path) -> Any:
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise DataError(
            f"{path}: reading it needs PyTorch: pip install 'kerasrep[torch]'; or save its arrays as NPZ, "
            "with tasks and branch_at, where PyTorch is"
        ) from None
    found = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if found < LEAST_TORCH:
        raise DataError(
            f"{path}: PyTorch {torch.__version__} could be made to run code by it; install torch>=2.6"
        )
    return torch


def _tensor_arrays(path: Path, tensors: dict[Any, Any]) -> dict[str, NDArray[Any]]:
    """Copy tensors into NumPy's arrays; half-precision kinds that NumPy lacks become float32."""
    import torch

    arrays: dict[str, NDArray[Any]] = {}
    n_bytes = 0
    for key, tensor in tensors.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            what = type(tensor).__name__
            raise DataError(f"{path}: key '{one_line(str(key))[:100]}' is a {what}, expected a tensor")
        _check_key(path, key)
        n_bytes += tensor.numel() * tensor.element_size()
        if n_bytes > limits.CHECKPOINT_BYTES.value:  # whatever the file's size: a view may repeat one value
            raise DataError(
                f"{path}: up to key '{key}', {list(tensor.shape)}, it is larger than any network; "
                f"{limits.CHECKPOINT_BYTES.advice}"
            )
        try:
            plain = tensor.detach()
            plain = plain.float() if plain.dtype == torch.bfloat16 else plain
            arrays[key] = np.array(plain.numpy())
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            raise DataError(f"{path}: key '{key}' is not a plain tensor of numbers") from None
    return arrays


def _tasks(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    tasks = values.get("tasks")
    if not isinstance(tasks, list | tuple) or not all(
        isinstance(task, str) and task.isprintable() for task in tasks
    ):
        raise DataError(f"{path}: 'tasks' is missing or no list of names; give {WHAT_A_CHECKPOINT_IS}")
    return tuple(tasks)


def _branch_at(path: Path, values: Mapping[str, Any]) -> int | str | None:
    branch_at = values.get("branch_at")
    if "branch_at" not in values or not isinstance(branch_at, int | str | None):
        raise DataError(f"{path}: 'branch_at' is missing or none of null, 2, 4, 6, fc")
    return branch_at


def _n_outs(path: Path, values: Mapping[str, Any], tasks: tuple[str, ...]) -> int | tuple[int, ...] | None:
    n_outs = values.get("n_outs")
    if isinstance(n_outs, dict) and set(tasks) <= set(n_outs):
        n_outs = [n_outs[task] for task in tasks]
    if isinstance(n_outs, Sequence) and all(isinstance(size, int) for size in n_outs):
        return tuple(n_outs)
    if not isinstance(n_outs, int | None):
        raise DataError(f"{path}: 'n_outs' is neither a number nor a list of them, one a task")
    return n_outs
