"""TF Serving's messages, made from descriptors that come with kerasrep.

`tensorflow-serving-api`, which has them as generated code, can be installed beside one minor of TensorFlow
only. The messages themselves are the same in all of them. `tests/serving/regenerate_messages.py` writes the
file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

#: A `FileDescriptorSet`, dependencies first (Apache License 2.0, The TensorFlow Authors).
DESCRIPTORS = Path(__file__).with_name("tf_serving_messages.binpb")
PACKAGE = "tensorflow.serving"


@cache
def message_class(name: str) -> Any:
    """The class of a message such as `PredictRequest`."""
    described = _pool().FindMessageTypeByName(f"{PACKAGE}.{name}")
    return message_factory.GetMessageClass(described)


def set_tensor(target: Any, value: Any) -> None:
    """Fill a `TensorProto` inside one of these messages from an array."""
    target.ParseFromString(tf.make_tensor_proto(value).SerializeToString())


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    # One of its own: the process's pool may hold other versions of the same files, as TensorFlow's.
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool
