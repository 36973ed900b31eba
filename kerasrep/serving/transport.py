"""What the client of a model server and its two protocols have in common."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import ServerError

Result = TypeVar("Result")


class Failure(Exception):  # noqa: N818 (it may pass, and then it is none)
    """A request that failed.

    Attributes:
        passing: Whether the same request may succeed in a moment.
    """

    def __init__(self, reason: str, passing: bool) -> None:
        super().__init__(" ".join(reason.split())[:300])
        self.passing = passing


@dataclass(frozen=True)
class ServedModel:
    """What a server says of `serving_default`.

    Attributes:
        segment_samples: Samples a channel in one segment.
        outputs: Name -> dimension.
    """

    segment_samples: int
    outputs: dict[str, int]


class Transport(Protocol):
    """One protocol; `describe` and `predict` are one request each and raise Failure.

    Attributes:
        segments_per_request: As many of 2.5 s as make a message below 4 MiB, which is what proxies take
            unless told otherwise.
    """

    segments_per_request: int

    def describe(self) -> ServedModel:
        """Ask for the signatures."""

    def predict(self, segments: NDArray[np.float32], outputs: Sequence[str]) -> NDArray[np.float32]:
        """float32 [segments, segment_samples, 2] -> some outputs side by side, float32 [segments, values]."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout_seconds: Of one request.
        attempts: Requests in all, before giving up.
        backoff_seconds: Pause after the first failure; it doubles each time, less a random part.
        max_backoff_seconds: Longest pause.
    """

    timeout_seconds: float = 60.0
    attempts: int = 5
    backoff_seconds: float = 0.2
    max_backoff_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.timeout_seconds <= 0 or self.backoff_seconds < 0:
            raise ServerError("client: attempts and timeout must be positive, the back-off not negative")

    def call(self, where: str, request: Callable[[], Result]) -> Result:
        """Send a request until it succeeds.

        Args:
            where: The server, for errors.
            request: Sends it once.

        Raises:
            ServerError: Where it was refused, or failed as often as is allowed.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return request()
            except Failure as failure:
                if not failure.passing:
                    raise ServerError(f"{where}: {failure}") from failure
                if attempt == self.attempts:
                    raise ServerError(f"{where}: {failure}; gave up after {attempt} attempts") from failure
                pause = min(self.backoff_seconds * 2 ** (attempt - 1), self.max_backoff_seconds)
                time.sleep(pause * random.uniform(0.5, 1.0))
        raise AssertionError("the last attempt returns or raises")
