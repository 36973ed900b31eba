"""Makes packages.lock.tsv anew from `packages.txt`, out of apt's lists: version, SHA-256 and size of each.

python recipes/starter/lock_packages.py --work FOLDER
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from files import CollectError, read_table, write_table
from packages import LOCK_COLUMNS, private_apt

HERE = Path(__file__).parent


def _apt(settings: Path, *command: str) -> str:
    environment = {**os.environ, "APT_CONFIG": str(settings)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def _newest_in_suite(settings: Path, name: str) -> dict[str, str]:
    """Fields of the newest version; the lists of one suite alone are read."""
    text = _apt(settings, "apt-cache", "show", "--no-all-versions", name)
    pairs = (line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))
    return {pair[0]: pair[1] for pair in pairs}


def main() -> int:
    """Reads the wanted packages, asks apt about each, writes the lock file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for apt's lists")
    arguments = parser.parse_args()
    wanted = read_table(HERE / "packages.txt")
    rows = []
    try:
        for suite in sorted({row["suite"] for row in wanted}):
            settings = private_apt(arguments.work / f"apt-{suite}", [suite])
            _apt(settings, "apt-get", "update", "-q")
            for row in (row for row in wanted if row["suite"] == suite):
                fields = _newest_in_suite(settings, row["name"])
                values = [fields[key] for key in ("Version", "SHA256", "Size")]
                rows.append([row["name"], values[0], suite, values[1], values[2], row["use"]])
    except (CollectError, subprocess.CalledProcessError, KeyError) as error:
        print(f"lock_packages: {error}", file=sys.stderr)
        return 1
    write_table(HERE / "packages.lock.tsv", LOCK_COLUMNS, sorted(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
