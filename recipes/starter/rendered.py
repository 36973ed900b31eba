"""All renderings and notes: which are to be made, the time limit, and the rows of their tables."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from files import CollectError, write_table, write_text
from instruments import DRUM_CLASSES
from packages import Package, unpacked_folder
from parts import deal_groups, hash_order, joined_groups, part_by_hash
from people import LeaveOut
from rendering import NoteJob, RenderJob, all_voices, draw_note, render, render_note, voice
from scores import list_grooves, list_midi
from time_limit import TIME_LIMIT, run_limited
from tqdm import tqdm

RENDER_LIMIT_SECONDS = 20.0
NOTE_LIMIT_SECONDS = 8.0
"""Of processor time, without that of MMA and the encoder."""
_VERSION = 1
"""Raise it when what is drawn for a number changes."""


@dataclass
class Made:
    """What there is of renderings or notes.

    Attributes:
        labels: One mapping each, in order of their numbers.
        failed: How many came to nothing, by reason.
    """

    labels: list[Mapping[str, Any]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)


def find_fonts(packages: Sequence[Package], work: Path) -> tuple[str, ...]:
    """The SoundFonts of the unpacked packages.

    Raises:
        CollectError: There is none.
    """
    folders = [unpacked_folder(package, work) for package in packages if package.use == "soundfont"]
    fonts = tuple(str(p) for folder in folders for p in sorted(folder.rglob("*.sf2")) if not p.is_symlink())
    if not fonts:
        raise CollectError("no SoundFont: --download, or put csound-soundfont's .deb into --debs")
    return fonts


def _run(jobs: Sequence[RenderJob | NoteJob], function: Any, processes: int, limit: float, what: str) -> Made:
    """Makes what is missing.

    What is silent, refused or never ends is kept as failed; after other errors a job is tried again.
    """
    made = Made()
    missing = [job for job in jobs if not _is_done(job)]
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), desc=what, unit="file") as progress:
        for outcome in run_limited(function, missing, processes, limit):
            progress.update()
            if outcome.error == TIME_LIMIT or outcome.error.startswith("RuntimeError: "):
                write_text(outcome.job.labels, json.dumps({"failed": outcome.error}))
            elif outcome.error:
                made.failed[outcome.error] += 1
    for job in (job for job in jobs if job.labels.is_file()):
        labels = json.loads(job.labels.read_text(encoding="utf-8"))
        if "failed" in labels:
            made.failed[labels["failed"].removeprefix("RuntimeError: ")] += 1
        else:
            made.labels.append(labels)
    return made


def _is_done(job: RenderJob | NoteJob) -> bool:
    if not job.labels.is_file():
        return False
    labels = json.loads(job.labels.read_text(encoding="utf-8"))
    return "failed" in labels or (job.out / labels["path"]).is_file()


def _labels_folder(work: Path, fonts: Sequence[str]) -> Path:
    """Labels of one set of SoundFonts lie together: another set draws anew."""
    names = " ".join(f"{Path(font).name} {Path(font).stat().st_size}" for font in fonts)
    return work / "labels" / hash_order(f"{_VERSION} {names}")[:12]


def make_renderings(
    packages: Sequence[Package], out: Path, work: Path, count: int, processes: int, leave_out: LeaveOut
) -> Made:
    """Renders grooves and MIDI files, `count` of them."""
    fonts = find_fonts(packages, work)
    scores = [
        (package.name, unpacked_folder(package, work)) for package in packages if package.use == "score"
    ]
    midi, grooves = tuple(list_midi(scores, leave_out)), tuple(list_grooves())
    folder = _labels_folder(work, fonts)
    jobs = [RenderJob(n, out, folder / f"rendering-{n:05d}.json", fonts, grooves, midi) for n in range(count)]
    made = _run(jobs, render, processes, RENDER_LIMIT_SECONDS, "render")
    made.labels = [{**labels, "part": part_by_hash(labels["group"])} for labels in made.labels]
    return made


def note_groups(fonts: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What the samples join: voices that share one, in one bank or two, are one group.

    All voices of the fonts count, drawn or not, so that more notes change neither groups nor parts.

    Returns:
        The group of each voice, and the part of each group.
    """
    found = [row for font in fonts for row in all_voices(font)]
    group_of = joined_groups([name, *samples] for name, _, samples in found)
    classes: dict[str, set[str]] = defaultdict(set)
    for name, item, samples in found:
        classes[group_of[name]].update([item] if samples else [])
    return group_of, deal_groups(classes)


def make_notes(packages: Sequence[Package], out: Path, work: Path, count: int, processes: int) -> Made:
    """Renders single notes and drum hits, `count` of them."""
    fonts = find_fonts(packages, work)
    folder = _labels_folder(work, fonts)
    group_of, part_of = note_groups(fonts)
    drawn = [draw_note(number, fonts) for number in range(count)]
    jobs = []
    for number, note in enumerate(drawn):
        font, program, key, _, _, drum = note
        labels = folder / f"{'hit' if drum else 'note'}-{number:05d}.json"
        jobs.append(NoteJob(number, out, labels, *note, group_of[voice(font, program, key, drum=drum)]))
    made = _run(jobs, render_note, processes, NOTE_LIMIT_SECONDS, "notes")
    groups = {job.number: job.group for job in jobs}
    numbered = ((groups[int(Path(labels["path"]).name[:5])], labels) for labels in made.labels)
    made.labels = [{**labels, "group": group, "part": part_of[group]} for group, labels in numbered]
    return made


def track_rows(made: Made) -> list[tuple[object, ...]]:
    """Rows of tracks.tsv."""
    return [
        (
            row["path"],
            row["kind"],
            row["package"],
            row["group"],
            row["part"],
            row["path"],
            row["seconds"],
        )
        for row in made.labels
    ]


def write_made_tables(out: Path, renderings: Made, notes: Made) -> None:
    """Writes instrument, tempo, key, groove, and the tables of single notes.

    Drums of renderings are no labels: symusic leaves many of them silent.
    """
    rows = renderings.labels
    spans = ((r["path"], *span) for r in rows for span in r["sounding"] if span[0] not in DRUM_CLASSES)
    write_table(out / "instrument.tsv", ("path", "item", "start_seconds", "end_seconds"), spans)
    write_table(out / "tempo.tsv", ("path", "value"), ((r["path"], r["tempo"]) for r in rows if r["tempo"]))
    write_table(out / "key.tsv", ("path", "item"), ((r["path"], r["key"]) for r in rows if r["key"]))
    write_table(out / "groove.tsv", ("path", "item"), ((r["path"], r["groove"]) for r in rows if r["groove"]))
    single, hits = ([n for n in notes.labels if n["drum"] is drum] for drum in (False, True))
    programs = ((n["path"], f"program {n['program']}") for n in single)
    write_table(out / "note_program.tsv", ("path", "item"), programs)
    write_table(out / "note_family.tsv", ("path", "item"), ((n["path"], n["item"]) for n in single))
    write_table(out / "note_drum.tsv", ("path", "item"), ((n["path"], n["item"]) for n in hits))


def summary(made: Made) -> dict[str, object]:
    """Counts for the report."""
    hours = round(sum(row["seconds"] for row in made.labels) / 3600, 2)
    parts = Counter(row["part"] for row in made.labels)
    packages = Counter(row["package"] for row in made.labels)
    return {
        "files": len(made.labels),
        "hours": hours,
        "parts": dict(sorted(parts.items())),
        "of": dict(packages.most_common()),
        "came to nothing": dict(made.failed),
    }
