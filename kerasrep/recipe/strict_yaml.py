"""A safe part of YAML, with the line of every key.

Values are those of YAML 1.2's core schema: only `true` and `false` are booleans, `1e-3` is a number, and
dates, `on` and `12:30` are text. Duplicate keys, keys that are not text, anchors, aliases, tags, several
documents and deep nesting are refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from kerasrep.storage import limits

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class StrictYamlError(ValueError):
    """What is wrong with a YAML text, in one line.

    Attributes:
        line: 1-based line of the fault.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Composes nodes only; values are constructed by `_construct`."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (as in the base class)
    depth = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.most_levels = limits.RECIPE_LEVELS.value

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise StrictYamlError(
                "anchors (&) and aliases (*) are not allowed; quote text that starts so", line
            )
        if event.tag is not None:
            raise StrictYamlError("tags (!) are not allowed; quote text that starts so", line)
        if self.depth >= self.most_levels:
            advice = limits.RECIPE_LEVELS.advice
            raise StrictYamlError(f"is nested more than {self.most_levels} deep; {advice}", line)
        self.depth += 1
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that either YAML 1.1 or this module would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.Node:
        # Only double quotes keep unusual line breaks such as U+0085 as they are.
        style = None if data.isprintable() else '"'
        return self.represent_scalar(_TAG + "str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)

for _name, _pattern, _first in _SCALARS:
    _characters = ["" if c == "\0" else c for c in _first]
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _characters)  # type: ignore[no-untyped-call]


def load(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """Read one YAML document.

    Args:
        text: The document.

    Returns:
        Its value (None where it is empty) and the 1-based line of each key and list item.

    Raises:
        StrictYamlError: Where the text is not YAML, or uses what is refused here.
    """
    if "\0" in text:
        raise StrictYamlError("holds a NUL byte and is not text", text.count("\n", 0, text.index("\0")) + 1)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StrictYamlError(f"is not valid YAML: {error.problem}", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise StrictYamlError(f"holds the control character {chr(error.character)!r}", line) from None
    except StrictYamlError:
        raise
    except (ValueError, OverflowError):  # PyYAML lets chr() fail on escapes such as "\UFFFFFFFF"
        raise StrictYamlError("is not valid YAML: an escape stands for no character", 1) from None
    lines: dict[KeyPath, int] = {}
    return (None if node is None else _construct(node, (), lines)), lines


def dump(value: Any) -> str:
    """Write plain values as YAML that `load` reads back equal; keys keep their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def _construct(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[(*path, number)] = item.start_mark.line + 1
        return [_construct(item, (*path, number), lines) for number, item in enumerate(node.value)]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise StrictYamlError("a key must be text", line)
        key = _scalar(key_node)
        if not isinstance(key, str):
            raise StrictYamlError(f"the key {key_node.value!r} must be text; put it in quotes", line)
        if key in values:
            raise StrictYamlError(f"the key '{key}' stands twice, first in line {lines[(*path, key)]}", line)
        lines[(*path, key)] = line
        values[key] = _construct(value_node, (*path, key), lines)
    return values


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    most = limits.RECIPE_NUMBER_CHARACTERS
    if len(text) > most.value:
        line = node.start_mark.line + 1
        raise StrictYamlError(
            f"a number has {len(text)} characters; {most.value} are allowed; {most.advice}", line
        )
    digits = text.replace("_", "")
    if kind == "int":
        base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
        return int(digits.removeprefix("0x").removeprefix("0o"), base)
    return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
