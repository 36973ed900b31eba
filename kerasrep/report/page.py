"""Pages: one HTML file each that can be mailed, opened on a phone, printed, and loads nothing but audio.

`templates/page.html` is what all pages have, `templates/parts.html` how tables and pictures look. Every name
that a template shows is escaped, and control characters in it are spelled out.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from kerasrep.errors import one_line


def render_page(
    template: str,
    title: str,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
    answer: str = "",
    next_steps: Sequence[str] = (),
    **contents: Any,
) -> str:
    """A page as text.

    Args:
        template: Its name in `templates`.
        title: Heading of the page.
        notes: What the reader must know before any number.
        provenance: Versions and settings, nested as one likes; `command`, a line or its words, is how to run
            it again.
        answer: What was found, in one sentence, before anything else.
        next_steps: What to do next.
        **contents: What the template shows.

    Returns:
        HTML that UTF-8 can encode.
    """
    command = provenance.get("command", "")
    return render(
        template,
        title=title,
        notes=notes,
        answer=answer,
        next_steps=next_steps,
        command=command if isinstance(command, str) else shlex.join(map(str, command)),
        settings=[line for line in _flat_lines(provenance) if line[0] != "command"],
        **contents,
    )


def render(template: str, **contents: Any) -> str:
    """A template as text, every name in it escaped; a piece of a notebook has no more than this."""
    environment = Environment(
        loader=PackageLoader("kerasrep.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: one_line(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Parts of a name between which a narrow screen may break it: after punctuation.
    environment.filters["name_parts"] = lambda name: re.split(r"(?<=[_/:.@-])", one_line(name))
    environment.filters["script_hash"] = lambda name: _script_hash(environment, name)
    return environment.get_template(template).render(**contents)


def _script_hash(environment: Environment, name: str) -> str:
    """What a page's policy names a script by, so that it runs and no other does."""
    assert environment.loader is not None
    text, *_ = environment.loader.get_source(environment, name)
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _flat_lines(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as lines: `section.key` and what it holds."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat_lines(inner, f"{prefix}{name}.")
        elif isinstance(inner, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, inner))
        else:
            yield f"{prefix}{name}", str(inner)
