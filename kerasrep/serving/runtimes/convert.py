"""Files for other runtimes are made of an export that is there already, under the number of its version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasrep.embedding.representations import model_fingerprint
from kerasrep.errors import ExportError
from kerasrep.model.start import restore_export
from kerasrep.serving.export import placing, temporary_beside, warmup_segments
from kerasrep.serving.runtimes import Source, require, runtime_card, runtime_of, write_formats
from kerasrep.storage.export_directory import SAVED_MODEL_FILE, ServingFolder, check_files
from kerasrep.storage.run_directory import read_object, write_json

CARD = "card.json"


def convert_export(version: Path, export: Path, formats: Sequence[str]) -> list[Path]:
    """Write an export for other runtimes, each file compared with the network of the SavedModel.

    Args:
        version: Folder of the SavedModel, its name a number.
        export: Folder such as `exported/NAME`; the files go to `runtimes/VERSION` in it, where those in
            other formats stay.
        formats: Of `runtimes.MODULES`.

    Returns:
        The files.

    Raises:
        ExportError: Where the export is damaged, has no number, or cannot be converted; or where another
            model has its number in `export`. Nothing is left behind.
    """
    require(formats)
    source = Source(version, restore_export(version))
    check_files(version, source.card)
    if source.card.version is None:
        raise ExportError(
            f"{version}: has no number, which its files shall have as well; call the folder NAME/1"
        )
    folder, target = ServingFolder(export), ServingFolder(export).runtimes(source.card.version)
    _check_number(folder, source)
    with temporary_beside(export) as temporary:
        made = temporary / target.name
        made.mkdir()
        about = write_formats(made, source, formats, warmup_segments(version))
        with placing(folder):
            _check_number(folder, source)
            earlier = read_object(target / CARD)["formats"] if target.exists() else {}
            write_json(made / CARD, runtime_card(source, earlier | about))
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                for path in sorted(made.iterdir(), key=lambda path: path.name == CARD):  # the card last
                    path.replace(target / path.name)
            else:
                made.rename(target)
    return [target / name for form in formats for name in runtime_of(form).FILES]


def _check_number(folder: ServingFolder, source: Source) -> None:
    """Refuse a number that means another model there.

    Raises:
        ExportError: Naming the folder of the other one.
    """
    number, own = source.card.version, model_fingerprint(source.saved)
    assert number is not None
    saved, files = folder.root / str(number), folder.runtimes(number)
    others = []
    if (saved / SAVED_MODEL_FILE).is_file() and model_fingerprint(saved) != own:
        others.append(saved)
    if files.exists() and read_object(files / CARD).get("audio", {}).get("model_fingerprint") != own:
        others.append(files)
    if others:
        raise ExportError(
            f"{others[0]}: is not of {source.saved}; choose another --directory or --name, or move it away"
        )
