"""The messages that come with kerasrep are TF Serving's."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from kerasrep.serving.messages import DESCRIPTORS, message_class, set_tensor

PUBLISHED = {
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "PredictionLog": prediction_log_pb2.PredictionLog,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "ModelServerConfig": model_server_config_pb2.ModelServerConfig,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_message_has_the_published_fields(name):
    ours, theirs = message_class(name).DESCRIPTOR, PUBLISHED[name].DESCRIPTOR
    assert ours.full_name == theirs.full_name
    fields = [[(f.name, f.number, f.type) for f in d.fields] for d in (ours, theirs)]
    assert fields[0] == fields[1]


def test_every_file_that_a_message_needs_is_there():
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    known = set()
    for file in files:
        assert set(file.dependency) <= known, file.name
        known.add(file.name)


def test_a_request_of_ours_is_read_by_the_published_code_and_the_other_way_round():
    audio = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    ours = message_class("PredictionLog")()
    ours.predict_log.request.model_spec.name = "starter"
    set_tensor(ours.predict_log.request.inputs["waveform"], audio)
    theirs = prediction_log_pb2.PredictionLog.FromString(ours.SerializeToString())
    assert theirs.WhichOneof("log_type") == "predict_log"
    assert theirs.predict_log.request.model_spec.name == "starter"
    np.testing.assert_array_equal(tf.make_ndarray(theirs.predict_log.request.inputs["waveform"]), audio)
    again = message_class("PredictionLog").FromString(theirs.SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(again.predict_log.request.inputs["waveform"]), audio)
