"""What a server reads beside the versions: which of them to serve, and how to batch requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from kerasrep.errors import ExportError, RunError
from kerasrep.serving.messages import message_class
from kerasrep.storage.export_directory import ServingFolder, find_version, read_card
from kerasrep.storage.run_directory import write_json, write_text

#: Segments, or tracks, that a server may put into one batch.
MAX_BATCH_SIZE = 32

#: Number and type of each field of `tensorflow.serving.BatchingParameters`, as published in
#: tensorflow_serving/servables/tensorflow/session_bundle_config.proto; no package on PyPI has this message.
BATCHING_FIELDS = {
    "max_batch_size": (1, "Int64Value"),
    "batch_timeout_micros": (2, "Int64Value"),
    "max_enqueued_batches": (3, "Int64Value"),
    "num_batch_threads": (4, "Int64Value"),
    "thread_pool_name": (5, "StringValue"),
    "allowed_batch_sizes": (6, "repeated int64"),
    "pad_variable_length_inputs": (7, "bool"),
}


def models_config(name: str) -> str:
    """Text of a `ModelServerConfig` that serves the newest version of one export."""
    return (
        "# For tensorflow_model_server --model_config_file. kerasrep writes this file once and never again.\n"
        "model_config_list {\n"
        "  config {\n"
        f'    name: "{name}"\n'
        f'    base_path: "/models/{name}"\n'
        '    model_platform: "tensorflow"\n'
        "    # The newest version. To roll back, name the versions: specific { versions: 1 }\n"
        "    model_version_policy { latest { num_versions: 1 } }\n"
        "  }\n"
        "}\n"
    )


def batching_parameters() -> str:
    """Text of `BatchingParameters` that suit both signatures."""
    return (
        "# For tensorflow_model_server --enable_batching --batching_parameters_file. kerasrep writes this\n"
        "# file once and never again.\n"
        "# Segments, or tracks, in one batch; a request with more is rejected.\n"
        f"max_batch_size {{ value: {MAX_BATCH_SIZE} }}\n"
        "# How long the first request waits for company, in microseconds.\n"
        "batch_timeout_micros { value: 5000 }\n"
        "# Batches that may wait; requests beyond them are rejected (UNAVAILABLE), and may be tried again.\n"
        "max_enqueued_batches { value: 100 }\n"
        "# Batches at once: as many as the machine has cores, or one a GPU.\n"
        "num_batch_threads { value: 2 }\n"
        "# Tracks of unequal lengths are padded; length_samples says what counts.\n"
        "pad_variable_length_inputs: true\n"
    )


def check_models_config(path: Path, text: str) -> None:
    """Parse a `ModelServerConfig` with TF Serving's own message.

    Raises:
        ExportError: With file and line of what is wrong.
    """
    _parse(path, text, message_class("ModelServerConfig")())


def check_batching_parameters(path: Path, text: str) -> None:
    """Parse `BatchingParameters` with the published fields.

    Raises:
        ExportError: With file and line of what is wrong, or the name of a number below 1.
    """
    message = _parse(path, text, batching_message())
    for name in ("max_batch_size", "num_batch_threads", "max_enqueued_batches"):
        if message.HasField(name) and getattr(message, name).value < 1:
            raise ExportError(f"{path}: {name} must be 1 or more")
    sizes = list(message.allowed_batch_sizes)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != message.max_batch_size.value):
        raise ExportError(f"{path}: allowed_batch_sizes must increase and end with max_batch_size")


def batching_message() -> Any:
    """An empty `BatchingParameters`, made from `BATCHING_FIELDS`."""
    field_types = descriptor_pb2.FieldDescriptorProto
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    for name, (number, kind) in BATCHING_FIELDS.items():
        field = message.field.add(name=name, number=number, label=field_types.LABEL_OPTIONAL)
        if kind == "bool":
            field.type = field_types.TYPE_BOOL
        elif kind == "repeated int64":
            field.type, field.label = field_types.TYPE_INT64, field_types.LABEL_REPEATED
        else:
            field.type, field.type_name = field_types.TYPE_MESSAGE, f".google.protobuf.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(wrappers)
    pool.Add(file)
    described = pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    return message_factory.GetMessageClass(described)()


def check_folder(folder: ServingFolder) -> None:
    """Read the configuration that lies in a serving folder already, which people may have changed.

    Raises:
        ExportError: Where one of the files is malformed.
    """
    for path, check in (
        (folder.models_config, check_models_config),
        (folder.batching_parameters, check_batching_parameters),
    ):
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ExportError(f"{path}: cannot be read ({error}); repair or delete it") from error
            check(path, text)


def write_folder(folder: ServingFolder) -> None:
    """Write the configuration where there is none, and the newest version's card.

    Raises:
        ExportError: Where nothing can be written there.
    """
    name = folder.root.resolve().name
    texts = {folder.models_config: models_config(name), folder.batching_parameters: batching_parameters()}
    check_models_config(folder.models_config, texts[folder.models_config])
    check_batching_parameters(folder.batching_parameters, texts[folder.batching_parameters])
    try:
        for path, text in texts.items():
            if not path.exists():
                write_text(path, text)
        newest = find_version(folder.root)
        if newest is not None:
            card = read_card(newest).model_dump(mode="json", exclude={"version"})
            write_json(folder.card, {"version": int(newest.name), **card})
    except (OSError, RunError) as error:
        raise ExportError(
            f"{folder.root}: the version is complete, its configuration is not ({error})"
        ) from error


def _parse(path: Path, text: str, message: Any) -> Any:
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ExportError(f"{path}: {' '.join(str(error).split())}; repair or delete it") from error
