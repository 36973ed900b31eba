"""The trunk that comes with kerasrep, for those who name no model, or `starter`."""

from __future__ import annotations

from pathlib import Path

from kerasrep.errors import ExportError
from kerasrep.storage.export_directory import find_version

NAME = "starter"
_PACKAGE = Path(__file__).parents[1]
#: Where an installed package has it, and where a clone has it.
PLACES = (_PACKAGE / "exported", _PACKAGE.parent / "exported")


def default_model() -> Path:
    """The newest version of the trunk that comes with kerasrep.

    Raises:
        ExportError: Where there is none.
    """
    for place in PLACES:
        version = find_version(place / NAME)
        if version is not None:
            return version
    raise ExportError(
        f"{NAME}: this installation lacks the trunk that comes with kerasrep (exported/{NAME}); train one "
        "(kerasrep-train recipes/starter.yaml) and name it with --model"
    )


def model_path(named: str | Path) -> Path:
    """The path of a model: what is named, or for `starter`, where no such path exists, the shipped trunk.

    Raises:
        ExportError: Where that is meant and missing.
    """
    path = Path(named)
    return default_model() if path == Path(NAME) and not path.exists() else path
