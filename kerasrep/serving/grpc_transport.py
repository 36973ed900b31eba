"""TF Serving's gRPC interface: the smaller and faster messages. Imports TensorFlow, for its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.serving.messages import PACKAGE, message_class, set_tensor
from kerasrep.serving.transport import Failure, ServedModel
from kerasrep.storage.export_directory import SERVING_DEFAULT

PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
    }
)
#: Of what is received; gRPC's own limit is 4 MiB, and -1 is none.
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class GrpcTransport:
    """Requests to `HOST:8500`, in plain text or over TLS."""

    segments_per_request = 8  # 3.5 MB

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None,
        timeout_seconds: float,
        credentials: grpc.ChannelCredentials | None,
        headers: dict[str, str],
    ) -> None:
        self._model, self._version = model, version
        self._timeout_seconds = timeout_seconds
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._channel = (
            grpc.insecure_channel(address, OPTIONS)
            if credentials is None
            else grpc.secure_channel(address, credentials, OPTIONS)
        )

    def describe(self) -> ServedModel:
        """GetModelMetadata."""
        request = message_class("GetModelMetadataRequest")(metadata_field=["signature_def"])
        self._name(request.model_spec)
        answer = self._send("GetModelMetadata", request)
        signatures = message_class("SignatureDefMap")()
        answer.metadata["signature_def"].Unpack(signatures)
        signature = signatures.signature_def[SERVING_DEFAULT]
        shape = signature.inputs["waveform"].tensor_shape.dim
        outputs = {
            name: output.tensor_shape.dim[-1].size
            for name, output in signature.outputs.items()
            if output.tensor_shape.dim
        }
        if len(shape) != 3:
            raise Failure("serves no kerasrep export (no 'waveform' in its signature)", passing=False)
        return ServedModel(shape[1].size, outputs)

    def predict(self, segments: NDArray[np.float32], outputs: Sequence[str]) -> NDArray[np.float32]:
        """Predict, with no other outputs than these."""
        request = message_class("PredictRequest")(output_filter=outputs)
        self._name(request.model_spec)
        request.model_spec.signature_name = SERVING_DEFAULT
        set_tensor(request.inputs["waveform"], segments)
        answer = self._send("Predict", request)
        if missing := [name for name in outputs if name not in answer.outputs]:
            raise Failure(f"gives no {missing[0]}", passing=False)
        return np.concatenate([tf.make_ndarray(answer.outputs[name]) for name in outputs], axis=-1)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _name(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _send(self, name: str, request: Any) -> Any:
        method = self._channel.unary_unary(
            f"/{PACKAGE}.PredictionService/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_class(f"{name}Response").FromString,
        )
        try:
            return method(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            code = error.code()
            raise Failure(f"answers {code.name}: {error.details()}", code in PASSING) from error
