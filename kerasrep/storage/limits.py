"""What bounds memory and time on files that come from elsewhere, all in one place.

Each limit is far above what honest files need. Where one is in the way, the environment variable that the
error names raises it, for instance `KERASREP_MAX_RECIPE_BYTES=1000000`. It is read whenever it is needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from kerasrep.errors import RecipeError

PREFIX = "KERASREP_MAX_"


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        name: Of the environment variable, without `KERASREP_MAX_`.
        default: Where it is not set.
        most: What it may be set to; beyond it other things break.
        bounds: What is bounded, as the reference has it.
    """

    name: str
    default: int
    bounds: str
    most: int = 1 << 50

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name

    @property
    def value(self) -> int:
        """What is allowed now.

        Raises:
            RecipeError: Where the variable holds no such number.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= self.most):
            raise RecipeError(
                f"{self.variable}: {text[:40]!r} is not a number from 1 to {self.most}; correct or unset it"
            )
        return int(text)

    @property
    def advice(self) -> str:
        """What to do about a file that is refused."""
        return f"if it is right and you trust it, raise {self.variable}"


RECIPE_BYTES = Limit("RECIPE_BYTES", 100_000, "a recipe; so much takes a second to read")
RECIPE_LEVELS = Limit("RECIPE_LEVELS", 20, "how deep a recipe nests", most=100)
RECIPE_NUMBER_CHARACTERS = Limit("RECIPE_NUMBER_CHARACTERS", 100, "a number in a recipe", most=4_000)
LINE_CHARACTERS = Limit("LINE_CHARACTERS", 1_000_000, "a line of a table, list or text; a value of Parquet")
XML_BYTES = Limit("XML_BYTES", 32 << 20, "an XML file of a downstream data set")
JSON_BYTES = Limit("JSON_BYTES", 256 << 20, "a card, a manifest or another JSON file")
NPZ_BYTES = Limit("NPZ_BYTES", 256 << 20, "an NPZ or .keras file unpacked, or 4 times the file")
ZIP_BYTES = Limit("ZIP_BYTES", 64_000_000, "a zipped list unpacked, or 100 times its packed size")
CHECKPOINT_BYTES = Limit("CHECKPOINT_BYTES", 256 << 20, "a checkpoint to import")
DATABASE_VALUE_BYTES = Limit("DATABASE_VALUE_BYTES", 1_000_000, "a value in a label database", most=10**9)
FRAMES_PER_BYTE = Limit("FRAMES_PER_BYTE", 4_096, "frames of audio that a header promises a byte of file")
SAMPLE_RATE_HZ = Limit("SAMPLE_RATE_HZ", 768_000, "rate of audio (and at least 1,000 Hz)", most=2**31 - 1)

ALL = (
    RECIPE_BYTES,
    RECIPE_LEVELS,
    RECIPE_NUMBER_CHARACTERS,
    LINE_CHARACTERS,
    XML_BYTES,
    JSON_BYTES,
    NPZ_BYTES,
    ZIP_BYTES,
    CHECKPOINT_BYTES,
    DATABASE_VALUE_BYTES,
    FRAMES_PER_BYTE,
    SAMPLE_RATE_HZ,
)
