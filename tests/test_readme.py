"""README and documentation: short, and true where a machine can tell."""

import argparse
import ast
import doctest
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kerasrep.errors import KerasrepError
from kerasrep.experiments.study.recipe import read_study
from kerasrep.experiments.tuning.reading import read_tuning
from kerasrep.recipe.file import read_recipe, read_tasks

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OTHERS = (ROOT / "CONTRIBUTING.md", ROOT / "exported" / "README.md")
PAGES = [README, *OTHERS, *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 900
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
#: Words before a command that are no part of it.
BEFORE = re.compile(r"^(?:\w+=\S+ )*")
COMMAND = re.compile(r"kerasrep-[a-z]+")
#: Recipes that the reader has and we have not.
YOURS = {"mine.yaml", "recipes/mine.yaml"}
#: Console script -> module, where they differ.
MODULES = {"import": "import_checkpoint"}
#: Reads a recipe by a key that only its kind has.
READERS = {"design": read_study, "space": read_tuning, "strategy": read_recipe, "tasks": read_tasks}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def parser_of(command: str) -> argparse.ArgumentParser:
    short = command.removeprefix("kerasrep-")
    return importlib.import_module(f"kerasrep.cli.{MODULES.get(short, short)}").build_parser()


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each kerasrep command in the page's shell blocks, whatever stands around it."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(BEFORE.sub("", part.strip()), comments=True)
                if words and words[0].startswith("kerasrep-"):
                    yield words


SHOWN = [(name(page), words) for page in PAGES for words in command_lines(page)]


def test_the_readme_is_one_page():
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_the_two_commands_are_in_the_readme():
    lines = "".join(blocks(README, "sh")).splitlines()
    assert 'python -m pip install -e ".[demo]" && kerasrep-train recipes/mss.yaml' in lines
    test = "python -m pip install tox && tox"
    assert test in lines
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").count(f"({test})") == 1


def test_commands_are_shown_in_many_pages():
    assert len(SHOWN) > 30
    assert {words[0] for _, words in SHOWN} >= {"kerasrep-train", "kerasrep-embed", "kerasrep-import"}


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[f"{page}: {shlex.join(w)}" for page, w in SHOWN])
def test_a_command_that_is_shown_is_understood(page, words, monkeypatch):
    try:
        given = parser_of(words[0]).parse_intermixed_args(words[1:])
    except SystemExit:
        pytest.fail(f"{page}: {shlex.join(words)}")
    if hasattr(given, "overrides") and given.recipe not in YOURS:
        monkeypatch.chdir(ROOT)
        read = {"kerasrep-study": read_study, "kerasrep-tune": read_tuning}.get(words[0], read_recipe)
        read(given.recipe, given.overrides)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_in_running_text_exist(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for code in re.findall(r"`+([^`]+)`+", text):
        for command in set(COMMAND.findall(code)):
            known = {option for action in parser_of(command)._actions for option in action.option_strings}
            options = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", code.split(command, 1)[1]))
            assert options <= known, f"{command} has no {options - known}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_that_is_shown_is_python(page):
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sessions_that_are_shown_run_as_shown(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = "\n\n".join(blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(text, {}, name(page), None, None)
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_recipes_that_are_shown_are_valid(page, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "recipes")  # where `recipe: mss.yaml` lies
    for number, block in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"shown-{number}.yaml"
        path.write_text(block, encoding="utf-8")
        keys = yaml.safe_load(block)
        read = next((reader for key, reader in READERS.items() if key in keys), None)
        assert read is not None, f"{name(page)}: what is read by {sorted(keys)}?"
        try:
            read(path)
        except KerasrepError as error:
            pytest.fail(f"{name(page)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_linked_are_there(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name(page)}: {target}"
