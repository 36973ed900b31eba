"""TF Serving's REST interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from kerasrep.serving.transport import Failure, ServedModel
from kerasrep.storage.export_directory import SERVING_DEFAULT

#: Statuses that pass: too many requests, and a server or proxy that is busy, starting or slow.
PASSING = frozenset({429, 502, 503, 504})


class RestTransport:
    """Requests to `http(s)://HOST:8501`."""

    segments_per_request = 2  # 2.8 MB

    def __init__(
        self, address: str, model: str, version: int | None, timeout_seconds: float, headers: dict[str, str]
    ) -> None:
        at = "" if version is None else f"/versions/{version}"
        self._url = f"{address.rstrip('/')}/v1/models/{model}{at}"
        self._timeout_seconds = timeout_seconds
        self._session = requests.Session()
        self._session.headers.update(headers)

    def describe(self) -> ServedModel:
        """GET .../metadata."""
        answer = self._send("GET", "/metadata")
        try:
            signature = answer["metadata"]["signature_def"]["signature_def"][SERVING_DEFAULT]
            sizes = [int(d["size"]) for d in signature["inputs"]["waveform"]["tensor_shape"]["dim"]]
            outputs = {
                name: int(output["tensor_shape"]["dim"][-1]["size"])
                for name, output in signature["outputs"].items()
            }
            return ServedModel(sizes[1], outputs)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise Failure(f"serves no kerasrep export ({error!r} in its metadata)", passing=False) from error

    def predict(self, segments: NDArray[np.float32], outputs: Sequence[str]) -> NDArray[np.float32]:
        """POST ...:predict, in columns."""
        body = {"signature_name": SERVING_DEFAULT, "inputs": {"waveform": shortest(segments).tolist()}}
        answer = self._send("POST", ":predict", json.dumps(body, separators=(",", ":")))
        try:
            found = answer["outputs"]
            if not isinstance(found, dict):  # with a single output TF Serving leaves its name out
                found = {"embedding": found}
            return np.concatenate([np.asarray(found[name], np.float32) for name in outputs], axis=-1)
        except (KeyError, TypeError, ValueError) as error:
            raise Failure(f"gives no embedding ({error!r})", passing=False) from error

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def _send(self, method: str, path: str, body: str | None = None) -> Any:
        try:
            answer = self._session.request(method, self._url + path, data=body, timeout=self._timeout_seconds)
        except requests.Timeout as error:
            raise Failure(f"no answer within {self._timeout_seconds:g} s", passing=True) from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise Failure(f"breaks off its answer ({error})", passing=True) from error
        except requests.ConnectionError as error:
            raise Failure(f"cannot be reached ({error})", passing=True) from error
        except requests.RequestException as error:
            raise Failure(f"is not a usable address ({error})", passing=False) from error
        if answer.status_code != requests.codes.ok:
            said = _error_of(answer)
            raise Failure(f"answers {answer.status_code}: {said}", answer.status_code in PASSING)
        try:
            return answer.json()
        except ValueError as error:
            raise Failure(f"answers no JSON, but {answer.text[:80]!r}", passing=False) from error


def shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same float32 values, as the numbers of float64 that JSON writes with the fewest digits.

    Written as they are, they have up to 17 digits, of which 9 say all.
    """
    rounded = values.astype("U").astype(np.float64)
    # Who reads them rounds twice, to float64 and to float32: what that would change stays as it is.
    return np.where(rounded.astype(np.float32) == values, rounded, values.astype(np.float64))


def _error_of(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return str(answer.text[:200] or answer.reason)
