"""Makes the folder of audio and labels that the shipped trunk is trained on.

    python recipes/starter/collect.py --debs DEBS --out FOLDER --download
    python recipes/starter/collect.py --debs DEBS --out FOLDER --renderings 4000 --notes 5000 --jobs 16

Debian packages of packages.lock.tsv are taken from DEBS (and put there by apt-get with --download), unpacked
without installing, their music is found, judged by leave_out.txt and credits.tsv, cut and encoded; scores are
rendered with SoundFonts; label tables are written. What is there is not made again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark import write_benchmark
from files import CollectError, need_modules, need_programs
from find_music import Credits
from packages import Package, download, find_deb, private_apt, read_lock, unpack, unpacked_folder, within
from people import LeaveOut
from real_music import LeftOut, Piece, encode_all, look_through, measure_all, with_paths
from rendered import make_notes, make_renderings, summary, track_rows, write_made_tables
from report import write_report
from tables import parts_of_pieces, write_real_tables
from tqdm import tqdm

from kerasrep.runtime.threads import core_count

HERE = Path(__file__).parent
LOG = logging.getLogger("collect")
PROGRAMS = ("ffmpeg", "ffprobe", "openmpt123", "mma", "dpkg-deb")
MODULES = ("symusic", "tinysoundfont")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debs", type=Path, required=True, help="folder of downloaded .deb files")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--work", type=Path, help="intermediate files (default: OUT-work beside OUT)")
    parser.add_argument("--download", action="store_true", help="let apt-get download what is missing")
    parser.add_argument(
        "--most-megabytes", type=float, default=6000, help="of packages, smallest first (%(default)s)"
    )
    parser.add_argument("--renderings", type=int, default=1500, help="of scores, 30 s each (%(default)s)")
    parser.add_argument("--notes", type=int, default=3000, help="single notes and drum hits (%(default)s)")
    parser.add_argument("--jobs", type=int, default=core_count(), help="processes (%(default)s)")
    chosen = parser.parse_args(arguments)
    chosen.work = chosen.work or chosen.out.with_name(f"{chosen.out.name}-work")
    return chosen


def get_packages(options: argparse.Namespace) -> tuple[list[Package], list[str]]:
    """Unpacks what is there or can be downloaded.

    Returns:
        Packages that are unpacked, and one line for each that is not.
    """
    locked = read_lock(HERE / "packages.lock.tsv")
    wanted = within(locked, int(options.most_megabytes * 1e6))
    missing = [f"{p.name} {p.version}: not taken, --most-megabytes" for p in locked if p not in wanted]
    apt = private_apt(options.work / "apt", {p.suite for p in locked}) if options.download else None
    ready, updated = [], False
    for package in tqdm(wanted, desc="packages", unit="package"):
        if not unpacked_folder(package, options.work).is_dir():
            deb = find_deb(options.debs, package)
            if deb is None and apt is not None:
                updated = updated or _update_lists(apt)
                download(package, options.debs, apt)
                deb = find_deb(options.debs, package)
            if deb is None:
                missing.append(
                    f"{package.name} {package.version} ({package.suite}): no .deb of the lock's SHA-256"
                )
                continue
            unpack(package, deb, options.work)
        ready.append(package)
    return ready, missing


def _update_lists(apt: Path) -> bool:
    import subprocess

    environment = {**os.environ, "APT_CONFIG": str(apt)}
    subprocess.run(["apt-get", "update", "-q"], env=environment, check=True, capture_output=True)
    return True


def remove_unfinished(out: Path) -> None:
    """Deletes what a run that was killed had begun."""
    for path in out.rglob(".unfinished-*"):
        path.unlink()


def remove_strays(out: Path, pieces: Sequence[Piece]) -> None:
    """Deletes stretches of earlier runs that are no longer wanted, in the folders of real music alone."""
    wanted = {out / path for piece in pieces for path in piece.stretches}
    for folder in {path.parent for path in wanted}:
        for path in folder.glob("*.opus"):
            if path not in wanted:
                LOG.warning("%s: no longer wanted, deleted", path.relative_to(out))
                path.unlink()


def collect_real(
    options: argparse.Namespace, packages: Sequence[Package]
) -> tuple[list[Piece], list[LeftOut]]:
    """Finds, judges, measures and encodes the recorded music and the tracker modules."""
    credits, out = Credits.read(HERE / "credits.tsv"), LeaveOut.read(HERE / "leave_out.txt")
    pieces: list[Piece] = []
    left_out: list[LeftOut] = []
    music = sorted((p for p in packages if p.use == "music"), key=lambda package: package.name)
    for package in tqdm(music, desc="look through", unit="package"):
        folder = unpacked_folder(package, options.work)
        cache = options.work / "found" / f"{folder.name}.json"
        good, bad = look_through(package, folder, cache, credits, out)
        pieces += good
        left_out += bad
    unique, bad = measure_all(pieces, options.work, options.jobs)
    left_out += bad
    encoded, bad = encode_all(with_paths(unique), options.out, options.jobs)
    remove_strays(options.out, encoded)
    return encoded, left_out + bad


def make_rest(
    options: argparse.Namespace,
    packages: Sequence[Package],
    pieces: Sequence[Piece],
    parts: Mapping[str, tuple[str, str]],
    left_out: Sequence[LeftOut],
    missing: Sequence[str],
) -> None:
    """Renders, and writes the tables: those of the real music first, so that they are there early."""
    out, work, jobs = options.out, options.work, options.jobs
    if not (out / "tracks.tsv").is_file():
        write_real_tables(out, pieces, parts, [])
    people = LeaveOut.read(HERE / "leave_out.txt")
    notes = make_notes(packages, out, work, options.notes, jobs)
    renderings = make_renderings(packages, out, work, options.renderings, jobs, people)
    write_real_tables(out, pieces, parts, [*track_rows(renderings), *track_rows(notes)])
    write_made_tables(out, renderings, notes)
    write_benchmark(out, pieces, parts, renderings, notes)
    made = {"Renderings": summary(renderings), "Single notes and drum hits": summary(notes)}
    write_report(out, pieces, parts, left_out, missing, made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all steps; each does only what is not done."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    options = parse_arguments(arguments)
    try:
        need_programs(*PROGRAMS)
        need_modules(*MODULES)
        remove_unfinished(options.out)
        packages, missing = get_packages(options)
        for line in missing:
            LOG.warning("missing: %s", line)
        pieces, left_out = collect_real(options, packages)
        parts = parts_of_pieces(pieces, HERE / "parts.tsv")
        make_rest(options, packages, pieces, parts, left_out, missing)
    except CollectError as error:
        print(f"collect: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
