"""Write the descriptors of TF Serving's messages anew, out of the installed `tensorflow-serving-api`.

python tests/serving/regenerate_messages.py
"""

from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from kerasrep.serving.messages import DESCRIPTORS

MODULES = (predict_pb2, get_model_metadata_pb2, prediction_log_pb2, model_server_config_pb2)


def descriptors() -> bytes:
    """A `FileDescriptorSet` of the modules and of all that they import, dependencies first."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file):
        if file.name not in files:
            for dependency in file.dependencies:
                add(dependency)
            files[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(files[file.name])

    for module in MODULES:
        add(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True)


if __name__ == "__main__":
    DESCRIPTORS.write_bytes(descriptors())
