"""The scripts of recipes/starter import each other as modules of one folder, as they do when one is run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "starter"))
