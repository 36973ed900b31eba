"""Turns pydantic's findings into the one line a person needs, in words of the recipe.

What is allowed is read from the JSON schema of the model, so that no bound or name is written twice.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kerasrep.recipe.base import ImpossibleSetting, Settings
from kerasrep.recipe.schema import Recipe

KeyPath = tuple[str | int, ...]
_Schema = Mapping[str, Any]

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Fault:
    """One fault of a recipe.

    Attributes:
        paths: Keys and list positions that lead to it; several where settings contradict each other.
        text: `KEY: what is wrong and what is allowed`.
        unknown_key: Whether the key itself is the fault.
    """

    paths: tuple[KeyPath, ...]
    text: str
    unknown_key: bool = False


def most_useful(error: ValidationError, model: type[Settings] = Recipe) -> Fault:
    """The fault to show: an unknown key first (it often explains the others), else the first found.

    Args:
        error: What `model` found.
        model: What the settings were checked against.
    """
    faults: dict[KeyPath, Fault] = {}
    for details in error.errors(include_url=False):
        fault = _fault(details, _schema_of(model))
        faults.setdefault(fault.paths[0], fault)
    # A list with a bad item is also reported as too short: only the item tells something.
    innermost = [
        fault for path, fault in faults.items() if not any(p[: len(path)] == path != p for p in faults)
    ]
    first = sorted(innermost, key=lambda fault: not fault.unknown_key)[0]
    more = f" (and {len(innermost) - 1} more)" if len(innermost) > 1 else ""
    return replace(first, text=first.text + more)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice whose spelling is nearest to `word`, if any is near."""
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), lowered, n=1, cutoff=0.6)
    found = found or difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def dotted(path: KeyPath) -> str:
    """`('sources', 1)` as `sources[1]`, `('training', 'epochs')` as `training.epochs`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part[:_SHOWN_CHARACTERS]}"
    return text


def _path(key: str) -> KeyPath:
    """The contrary of `dotted`, for names without dots and brackets."""
    parts = key.replace("[", ".").replace("]", "").split(".")
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def kinds(key: KeyPath) -> frozenset[str]:
    """JSON schema's types of what stands at `key`, such as `integer`; empty where there is no such key."""
    path, schema = _follow(key, _schema_of(Recipe))
    options = schema.get("anyOf", [schema])
    return frozenset(option["type"] for option in options if "type" in option) if path == key else frozenset()


def _fault(details: ErrorDetails, root: _Schema) -> Fault:
    impossible = details.get("ctx", {}).get("error")
    if isinstance(impossible, ImpossibleSetting):
        return Fault(tuple(_path(key) for key in impossible.keys), str(impossible))
    path, schema = _follow(details["loc"], root)
    kind, value = details["type"], details["input"]
    key_of_table = details["loc"][-1:] == ("[key]",)
    if kind == "extra_forbidden" or key_of_table:
        section = details["loc"][: -2 if key_of_table else -1]
        inside = _follow(section, root)[1]
        allowed = _keys(inside)
        if key_of_table and not allowed:
            return Fault((path,), f"{dotted(path)}: {_wrong(path[-1], _names(inside))}")
        return Fault(
            (path,), f"{dotted(path)}: unknown key; {_choice(str(path[-1]), allowed)}", unknown_key=True
        )
    if kind.startswith("union_tag"):
        path, value, schema = (*path, "name"), value.get("name"), {"enum": _members(schema)}
    found = f"is missing; it takes {_allowed(schema)}" if kind == "missing" else _wrong(value, schema)
    return Fault((path,), f"{dotted(path)}: {found}")


@lru_cache
def _schema_of(model: type[Settings]) -> _Schema:
    schema = model.model_json_schema()
    expanded: _Schema = _expanded(schema, schema.get("$defs", {}))
    return expanded


def _expanded(value: Any, definitions: _Schema) -> Any:
    """A part of a schema with what it refers to in place of every reference."""
    if isinstance(value, list):
        return [_expanded(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        beside = {key: inner for key, inner in value.items() if key != "$ref"}
        return _expanded({**_definition(value["$ref"], definitions), **beside}, definitions)
    inside = {key: _expanded(inner, definitions) for key, inner in value.items() if key != "$defs"}
    if "discriminator" in value:
        members = value["discriminator"]["mapping"]
        inside["discriminator"] = {
            "mapping": {
                name: _expanded(_definition(reference, definitions), definitions)
                for name, reference in members.items()
            }
        }
    return inside


def _definition(reference: str, definitions: _Schema) -> Any:
    return definitions[reference.rpartition("/")[2]]


def _follow(location: Iterable[str | int], root: _Schema) -> tuple[KeyPath, _Schema]:
    """Walk the schema along pydantic's location, leaving out what is not a key of the recipe.

    Left out are the names of union members, such as `demo` in `corpus.demo.tracks`.

    Returns:
        The path of keys, and the schema of what stands there.
    """
    path: list[str | int] = []
    schema = root
    for part in location:
        if "discriminator" in schema and part in schema["discriminator"]["mapping"]:
            schema = schema["discriminator"]["mapping"][part]
            continue
        sections = {o.get("title"): o for o in schema.get("anyOf", []) if "properties" in o}
        if part in sections:
            schema = sections[part]
            continue
        inner = _inside(schema, part)
        if inner is not None:
            path.append(part)
            schema = inner
        elif "properties" in schema:  # an unknown key
            path.append(part)
            schema = {}
    return tuple(path), schema


def _inside(schema: _Schema, part: str | int) -> _Schema | None:
    """The schema of key or list position `part` of `schema`; None where it is neither."""
    for option in [schema, *schema.get("anyOf", [])]:
        if isinstance(part, int) and "items" in option:
            return option["items"]  # type: ignore[no-any-return]
        if part in option.get("properties", {}):
            return option["properties"][part]  # type: ignore[no-any-return]
        named = option.get("additionalProperties") or next(
            iter(option.get("patternProperties", {}).values()), 0
        )
        if isinstance(part, str) and part != "[key]" and isinstance(named, dict):
            return named
    return None


def _keys(schema: _Schema) -> list[str]:
    return list(schema.get("properties") or schema.get("propertyNames", {}).get("enum", []))


def _names(schema: _Schema) -> _Schema:
    """What the keys of `schema` may be."""
    return {"type": "string", **schema.get("propertyNames", {})}


def _members(schema: _Schema) -> list[str]:
    """Names of the sections among which `name` chooses."""
    return list(schema["discriminator"]["mapping"])


def _wrong(value: Any, schema: _Schema) -> str:
    """Why `value` does not fit `schema`."""
    text = f"{_shown(value)} is not allowed; it takes {_allowed(schema)}"
    words = [*_words(schema), *schema.get("examples", [])]
    near = nearest(value, words) if isinstance(value, str) else None
    if near is not None:
        return f"{text}; did you mean '{near}'?"
    if schema.get("type") == "string" and isinstance(value, int | float):
        return f"{text}; put it in quotes to make it text"
    return text


def _choice(word: str, choices: list[str]) -> str:
    near = nearest(word, choices)
    allowed = f"allowed here: {', '.join(choices)}"
    return f"did you mean '{near}'? {allowed}" if near else allowed


def _words(schema: _Schema) -> list[str]:
    """Words that `schema` takes."""
    options = [schema, *schema.get("anyOf", [])]
    return [w for o in options for w in (*o.get("enum", []), *([o["const"]] if "const" in o else []))]


def _allowed(schema: _Schema) -> str:  # noqa: PLR0911
    """What `schema` takes, in plain words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    words = _words(schema)
    if words:
        return f"'{words[0]}'" if len(words) == 1 else "one of " + ", ".join(words)
    match schema.get("type"):
        case "integer":
            return "a whole number" + _range(schema)
        case "number":
            return "a number" + _range(schema)
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case "array":
            if fixed := schema.get("prefixItems"):  # a range: as many as there are, all alike
                return f"a list of {len(fixed)}, each {_allowed(fixed[0])}"
            item = _allowed(schema["items"])
            return f"a list ({'at least one; ' if schema.get('minItems') else ''}each {item})"
        case "string":
            return str(schema.get("description", "text"))
    if "discriminator" in schema:
        return f"keys with values, 'name' first: {', '.join(_members(schema))}"
    keys = _keys(schema)
    return f"keys with values ({', '.join(keys)})" if keys else "keys with values"


def _range(schema: _Schema) -> str:
    lower = {"minimum": "at least", "exclusiveMinimum": "above"}
    upper = {"maximum": "at most", "exclusiveMaximum": "below"}
    found = [
        f"{word} {schema[key]}" for side in (lower, upper) for key, word in side.items() if key in schema
    ]
    return " " + " and ".join(found) if found else ""


def _shown(value: Any) -> str:
    """`value` as a person would write it, shortened."""
    if isinstance(value, float) and not math.isfinite(value):
        return "infinity" if value > 0 else "-infinity" if value < 0 else "not-a-number (nan)"
    if isinstance(value, dict):
        return "a mapping"
    if value is None or isinstance(value, bool):
        return {None: "nothing (null)", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
