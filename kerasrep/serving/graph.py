"""Which operations a SavedModel is made of: TensorFlow's own, and none that reach outside the graph."""

from __future__ import annotations

from pathlib import Path

from kerasrep.errors import ExportError
from kerasrep.storage.export_directory import SAVED_MODEL_FILE

#: Operations of TensorFlow that no server should find in a model: they call Python or touch its files.
FORBIDDEN = frozenset(
    {
        *("PyFunc", "PyFuncStateless", "EagerPyFunc", "HostConst"),
        *("ReadFile", "WriteFile", "PrintV2", "MatchingFiles"),
    }
)


def operations_of(saved: Path) -> frozenset[str]:
    """Names of all operations in the graphs of a SavedModel and in its library of functions.

    Args:
        saved: Folder of the SavedModel.

    Returns:
        Names; calls of the library's own functions are left out.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((saved / SAVED_MODEL_FILE).read_bytes())
    found: set[str] = set()
    for meta_graph in model.meta_graphs:
        library = meta_graph.graph_def.library.function
        names = {function.signature.name for function in library}
        found.update(node.op for node in meta_graph.graph_def.node)
        found.update(node.op for function in library for node in function.node_def)
        found -= names
    return frozenset(found)


def check_operations(saved: Path) -> None:
    """Refuse a SavedModel that a server without kerasrep could not load.

    Raises:
        ExportError: Naming the operations that are not TensorFlow's, or that reach outside the graph.
    """
    from tensorflow.python.framework import op_def_registry

    # Libraries that are loaded into this process may have registered theirs too, as `LIBRARY>NAME`.
    odd = sorted(
        name
        for name in operations_of(saved)
        if ">" in name or name in FORBIDDEN or op_def_registry.get(name) is None
    )
    if odd:
        raise ExportError(f"export: the graph holds {', '.join(odd)}, which servers do not run")
