"""An embedder whose model runs in a server: TF Serving, over gRPC or REST.

    with Client("grpc://localhost:8500", "mss", card="exported/mss/card.json") as client:
        vector = client.embed(waveform, sample_rate_hz=44_100)

Audio is checked, resampled, doubled where it is mono and cut into segments here, as with a local model; the
server gets segments, a few at a time, so that no message grows with the length of a recording.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.embedding.embedder import Embedder
from kerasrep.embedding.models import EmbedSegments, SegmentModel
from kerasrep.errors import ServerError
from kerasrep.runtime.extras import require
from kerasrep.serving.transport import Patience, ServedModel, Transport
from kerasrep.storage.export_directory import ExportCard, read_card_file
from kerasrep.storage.segment_vector import SHARED, Piece


class Client(Embedder):
    """A model server with the methods of a local model: `embed`, `embed_file`, `embed_segments`.

    Attributes:
        address: As it was given.
        model: Name of the served model.
        sample_rate_hz: Rate that recordings are converted to.
        branches: Names of the representations side by side, in the card's order; without a card
            `branch_1`, `branch_2`, ..., as a server does not tell their order.
        dimension: Dimensions of an embedding: 512 a branch.
        columns: Name of each value.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        card: str | Path | ExportCard | None = None,
        patience: Patience | None = None,
        segments_per_request: int | None = None,
        credentials: Any = None,
        headers: dict[str, str] | None = None,
        layers: str | Sequence[str] | None = None,
    ) -> None:
        """Connect, and ask the server what it serves.

        Args:
            address: `grpc://HOST:8500`, `grpcs://...` (TLS), `http://HOST:8501` or `https://...`; a path
                in an HTTP address is kept.
            model: Name of the served model.
            version: Of the model; by default the one that the server picks.
            card: `exported/NAME/card.json` or a version's, for the names of the branches and for models of
                another rate or segment than the paper's. It must be that of the served version.
            patience: Time-outs, attempts and back-off.
            segments_per_request: At most; fewer make smaller messages. By default 8 over gRPC and 2 over
                REST, whose messages then stay under 4 MiB.
            credentials: `grpc.ChannelCredentials` for `grpcs`; by default the system's certificates.
            headers: Sent with each request, such as `Authorization`.
            layers: What an embedding is made of (see `kerasrep.load`), by default what the card says; others
                than the last need the card.

        Raises:
            ServerError: Where the address is none, the server cannot be reached, or serves something else
                than the card describes.
            ExportError: Where the card is missing or malformed, or names no such layers.
            RecipeError: Where there is no such layer.
        """
        self.address, self.model = address, model
        self._closed = False
        self._where = f"{address}, model '{model}'"
        self._patience = patience or Patience()
        if segments_per_request is not None and segments_per_request < 1:
            raise ServerError("client: segments_per_request must be 1 or more")
        described = card if isinstance(card, ExportCard) or card is None else read_card_file(Path(card))
        if described is not None and version is not None and described.version not in {None, version}:
            raise ServerError(
                f"{self._where}: version={version}, but card= describes version {described.version}; give "
                "that version's card"
            )
        self._transport = _connect(address, model, version, self._patience, credentials, headers or {})
        self._segments_per_request = segments_per_request or self._transport.segments_per_request
        try:
            served = self._patience.call(self._where, self._transport.describe)
            super().__init__(self._segment_model(served, described), layers)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of connections; afterwards nothing can be embedded."""
        self._closed = True
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _segment_model(self, served: ServedModel, card: ExportCard | None) -> SegmentModel:
        """Compare what the server says with the card, or with the paper's settings."""
        samples = constants.SEGMENT_SAMPLES if card is None else card.segment_samples
        if served.segment_samples != samples:
            raise ServerError(
                f"{self._where}: takes segments of {served.segment_samples} samples, not {samples}; give "
                "card=, the card.json of the served version"
            )
        dimension = served.outputs.get("embedding", 0)
        n_branches, rest = divmod(dimension, constants.EMBEDDING_SIZE)
        if rest or not n_branches or (card is not None and card.segment_dimension != dimension):
            wanted = "a multiple of 256" if card is None else f"the card's {card.segment_dimension}"
            raise ServerError(f"{self._where}: gives {dimension} values a segment, not {wanted}")
        if card is None:
            branches = tuple(f"branch_{number}" for number in range(1, n_branches + 1))
            return SegmentModel(self._embed_some(()), constants.SAMPLE_RATE_HZ, samples, branches)
        self._check_outputs(served, card)
        embed = self._embed_some(())
        own = card.sample_rate_hz, samples, card.branches, self._embed_some, card.layers, card.default_layers
        return SegmentModel(embed, *own)

    def _check_outputs(self, served: ServedModel, card: ExportCard) -> None:
        """Refuse the card of a model of other sources or layers: it would name the values wrongly."""
        prefix = "embedding_"
        found = {name.removeprefix(prefix) for name in served.outputs if name.startswith(prefix)}
        for piece in card.layers:
            if served.outputs.get(piece.output) != piece.width:
                raise ServerError(
                    f"{self._where}: has not the '{piece.output}' of the card; give card=, the card.json of "
                    "the served version"
                )
        if found != set(card.branches) - {SHARED}:
            raise ServerError(
                f"{self._where}: has the branches {', '.join(sorted(found)) or SHARED}, the card "
                f"{', '.join(card.branches)}; give card=, the card.json of the served version"
            )

    def _embed_some(self, pieces: tuple[Piece, ...]) -> EmbedSegments:
        """Outputs of all branches, as the server lays them side by side; by default the embeddings."""
        outputs = tuple(dict.fromkeys(piece.stem for piece in pieces)) or ("embedding",)

        def embed_segments(segments: NDArray[np.float32]) -> NDArray[np.float32]:
            if self._closed:
                raise ServerError(f"{self._where}: this client is closed; make another one")
            if len(segments) == 0:
                return np.zeros((0, self.layout.segment_dimension), np.float32)
            n_requests = math.ceil(len(segments) / self._segments_per_request)
            parts = [self._predict(part, outputs) for part in np.array_split(segments, n_requests)]
            return np.concatenate(parts)

        return embed_segments

    def _predict(self, segments: NDArray[np.float32], outputs: tuple[str, ...]) -> NDArray[np.float32]:
        found = self._patience.call(self._where, lambda: self._transport.predict(segments, outputs))
        expected = (len(segments), self.layout.segment_dimension)
        if found.shape != expected:
            raise ServerError(
                f"{self._where}: gives an embedding of {list(found.shape)}, not {list(expected)}"
            )
        return found


def _connect(
    address: str,
    model: str,
    version: int | None,
    patience: Patience,
    credentials: Any,
    headers: dict[str, str],
) -> Transport:
    """Choose the protocol that the address names.

    Raises:
        ServerError: Where it names none.
    """
    none = ServerError(
        f"client: '{address}' is not an address; give grpc://HOST:8500, grpcs://..., http://HOST:8501 or https://..."
    )
    try:
        parts = urlsplit(address)
        usable = parts.hostname and parts.port != 0
    except ValueError as error:  # half a bracket, or a port above 65535
        raise none from error
    if not usable:
        raise none
    require("serving", ("requests", "grpc"), "client")
    if parts.scheme in {"http", "https"}:
        from kerasrep.serving.rest import RestTransport

        return RestTransport(address, model, version, patience.timeout_seconds, headers)
    if parts.scheme in {"grpc", "grpcs"} and parts.path in {"", "/"}:
        import grpc

        from kerasrep.serving.grpc_transport import GrpcTransport

        if parts.scheme == "grpcs" and credentials is None:
            credentials = grpc.ssl_channel_credentials()
        secure = credentials if parts.scheme == "grpcs" else None
        return GrpcTransport(parts.netloc, model, version, patience.timeout_seconds, secure, headers)
    raise none
