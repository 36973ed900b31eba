"""Parts of the reference that are made out of the code when the documentation is built.

A page holds a placeholder, and the text that the code gives stands there instead:

    ```{generated} command kerasrep-train
    ```

    ```{generated} recipe kerasrep.recipe.schema:Recipe
    ```

    ```{generated} limits
    ```

    ```{generated} layers
    ```
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[2]
PLACEHOLDER = re.compile(r"^```\{generated\} (\w+) ?(.*)\n```$", re.MULTILINE)
HELP_COLUMNS = 90
BOOLEAN = "`true` or `false`"
PATH = "a path"
#: Console script -> module, where they differ.
MODULES = {"import": "import_checkpoint"}

logger = logging.getLogger(__name__)


def command(name: str) -> str:
    """The `--help` of a command."""
    short = name.removeprefix("kerasrep-")
    module = importlib.import_module(f"kerasrep.cli.{MODULES.get(short, short)}")
    os.environ["COLUMNS"] = str(HELP_COLUMNS)
    return f"```text\n{module.build_parser().format_help().rstrip()}\n```"


def limits(_: str) -> str:
    """The table of the limits on files that come from elsewhere."""
    from kerasrep.storage.limits import ALL

    rows = [f"| `{limit.variable}` | {limit.default:,} | {limit.bounds} |" for limit in ALL]
    return "\n".join(["| variable | default | of |", "|---|---|---|", *rows])


def layers(_: str) -> str:
    """The layers that `tests/test_layers.py` enforces, each part with the first line of its docstring."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    found = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
    )
    lines = []
    for number, parts in enumerate(ast.literal_eval(found), 1):
        described = [f"`{part}`: {_first_line(part)}" for part in sorted(parts)]
        lines.append(f"{number}. " + "\n   ".join(f"{text}<br>" for text in described).removesuffix("<br>"))
    return "\n".join(lines)


def _first_line(part: str) -> str:
    base = ROOT / "kerasrep" / part.replace(".", "/")
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def recipe(name: str) -> str:
    """Every key of a recipe: its values, its default and what it does, from the schema.

    A key that its docstring says nothing about is a warning, with which `sphinx-build -W` fails.
    """
    module, _, attribute = name.partition(":")
    return "\n".join(_section(getattr(importlib.import_module(module), attribute), "", set()))


def _section(section: type[BaseModel], prefix: str, seen: set[tuple[str, type]]) -> Iterator[str]:
    """The keys of a section, then those of the sections in it, each under a heading of its own."""
    about = _attributes(section)
    inner: list[tuple[str, type[BaseModel]]] = []
    plain: list[str] = []
    for key, field in section.model_fields.items():
        dotted = prefix + key
        sections = list(_sections(field.annotation))
        inner += [(_inner_prefix(dotted, field.annotation), found) for found in sections]
        text = about.get(key, "")
        if not text and sections:
            plain.append(f"`{dotted}`")
            continue
        if not text and not _is_name(field):
            logger.warning("%s.%s: the docstring says nothing about this key", section.__qualname__, key)
        default = "default: the name of the file" if dotted == "name" else _default(field)
        yield from [f"`{dotted}`", f": {_values(field)}; {default}. {text}".rstrip(), ""]
    if plain:
        yield from [", ".join(plain), ": sections of their own, below.", ""]
    for dotted, found in inner:
        if (dotted, found) in seen:
            continue
        seen.add((dotted, found))
        name = _name_of(found)
        yield from [f"## {dotted.rstrip('.')}" + (f": {name}" if name else ""), ""]
        yield from [_text(inspect.getdoc(found) or "").partition(" Attributes: ")[0], ""]
        yield from _section(found, dotted, seen)


def _inner_prefix(dotted: str, annotation: Any) -> str:
    """How the keys below are written: `tasks[].name` in a list, `space.KEY.min` in a mapping."""
    kinds = {typing.get_origin(part) for part in _parts(annotation)}
    return dotted + ("[]." if tuple in kinds else ".KEY." if dict in kinds else ".")


def _parts(annotation: Any) -> Iterator[Any]:
    """An annotation without `Annotated`, its alternatives one by one."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _parts(typing.get_args(annotation)[0])
    elif origin in {typing.Union, types.UnionType}:
        for part in typing.get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    for part in _parts(annotation):
        if inspect.isclass(part) and issubclass(part, BaseModel):
            yield part
        elif typing.get_origin(part) in {tuple, dict}:
            for argument in typing.get_args(part):
                yield from _sections(argument)


def _attributes(section: type[BaseModel]) -> dict[str, str]:
    """What docstrings say of each key, those of the classes above included."""
    found: dict[str, str] = {}
    for ancestor in reversed(section.__mro__):
        _, _, listed = inspect.cleandoc(ancestor.__doc__ or "").partition("\nAttributes:\n")
        for entry in re.split(r"\n(?=    \w)", "\n" + listed.split("\n\n")[0]):
            key, colon, text = entry.strip().partition(":")
            if colon:
                found[key] = _text(text)
    return found


def _text(docstring: str) -> str:
    return " ".join(docstring.split())


def _is_name(field: FieldInfo) -> bool:
    """Whether a key only says which of several sections this is."""
    return typing.get_origin(field.annotation) is Literal and len(typing.get_args(field.annotation)) == 1


def _name_of(section: type[BaseModel]) -> str:
    field = section.model_fields.get("name")
    return str(typing.get_args(field.annotation)[0]) if field is not None and _is_name(field) else ""


def _values(field: FieldInfo) -> str:
    about = [field] if field.description else []
    return _describe(field.annotation, [*about, *field.metadata])


def _describe(annotation: Any, metadata: list[Any]) -> str:
    """The values of an annotation in words."""
    from kerasrep.recipe.base import SourceName

    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation == SourceName:
        return "a source"
    if origin is Annotated:
        return _describe(arguments[0], [*arguments[1:], *metadata])
    if origin is Literal:
        return _or([f"`{value}`" for value in arguments])
    if origin in {typing.Union, types.UnionType}:
        return _union(arguments, metadata)
    if origin in {tuple, dict}:
        inner = [_describe(argument, []) for argument in arguments if argument is not ...]
        return f"a list, each {inner[0]}" if origin is tuple else f"a mapping from {inner[0]} to {inner[1]}"
    return _scalar(annotation, metadata)


def _union(arguments: tuple[Any, ...], metadata: list[Any]) -> str:
    texts = [_describe(part, metadata) for part in arguments if part is not type(None)]
    words = [word for text in texts for word in (["`true`", "`false`"] if text == BOOLEAN else [text])]
    return _or(list(dict.fromkeys([*words, *(["`null`"] if type(None) in arguments else [])])))


def _scalar(annotation: Any, metadata: list[Any]) -> str:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        name = _name_of(annotation)
        return f"a section with `name: {name}`" if name else "a section"
    described = [item.description for item in metadata if getattr(item, "description", None)]
    if described:
        return str(described[0]) if described[0] == PATH else f"text ({described[0]})"
    plain = {bool: BOOLEAN, int: "a whole number", float: "a number", str: "text"}
    return plain.get(annotation, "any value") + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    flat = [inner for item in metadata for inner in getattr(item, "metadata", [item])]
    signs = {
        annotated_types.Ge: ("{:,} or more", "ge"),
        annotated_types.Gt: ("above {:,}", "gt"),
        annotated_types.Le: ("at most {:,}", "le"),
        annotated_types.Lt: ("below {:,}", "lt"),
        annotated_types.MultipleOf: ("a multiple of {:,}", "multiple_of"),
    }
    found = [
        words.format(getattr(item, name))
        for kind, (words, name) in signs.items()
        for item in flat
        if isinstance(item, kind)
    ]
    return "".join(f", {words}" for words in found)


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "default: see below"
    if value is PydanticUndefined or value is None:
        return "default `null`"
    if isinstance(value, tuple):
        return f"default `[{', '.join(map(str, value))}]`"
    if isinstance(value, bool):
        return f"default `{str(value).lower()}`"
    return f"default `{value}`"


KINDS: dict[str, Callable[[str], str]] = {
    "command": command,
    "recipe": recipe,
    "limits": limits,
    "layers": layers,
}


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Replace the placeholders of a page."""
    source[0] = PLACEHOLDER.sub(lambda found: KINDS[found[1]](found[2].strip()), source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
