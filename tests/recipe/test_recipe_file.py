import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep import constants
from kerasrep.errors import RecipeError
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.base import Settings, StrategyName
from kerasrep.recipe.file import read_recipe, write_recipe
from kerasrep.recipe.schema import Recipe, differences
from kerasrep.storage import limits

BASE = "strategy: mss-cr\nsources: [tag, year]\n"  # two lines: what follows stands in line 3


def fault(path, *overrides):
    with pytest.raises(RecipeError) as raised:
        read_recipe(path, overrides)
    assert raised.value.exit_code == 2
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert "pydantic" not in message
    assert "validation" not in message.lower().replace("validation_", "")
    return message


# Reading


def test_defaults_are_the_papers(write_yaml):
    recipe = read_recipe(write_yaml("strategy: ss-r\nsources: [tag]\n"))
    assert (recipe.batches.size, recipe.training.epochs, recipe.training.learning_rate) == (128, 200, 2.5e-4)
    assert (recipe.targets.size, recipe.model.dropout, recipe.model.l2) == (50, 0.5, 1e-6)
    assert (recipe.audio.segment_samples, recipe.audio.segment_frames) == (55_125, 216)
    assert recipe.corpus.name == "demo"


def test_name_is_the_stem_of_the_file_unless_given(write_yaml):
    assert read_recipe(write_yaml(BASE, "my-run.v2.yaml")).name == "my-run.v2"
    assert read_recipe(write_yaml(BASE + "name: other", "my-run.yaml")).name == "other"
    assert read_recipe(write_yaml(BASE, "my-run.yaml"), ["name=third"]).name == "third"


def test_stem_that_cannot_be_a_name_is_explained(write_yaml):
    message = fault(write_yaml(BASE, "my run.yaml"))
    assert "'my run'" in message
    assert "file's stem" in message
    assert read_recipe(write_yaml(BASE, "my run.yaml"), ["name=fine"]).name == "fine"


def test_numbers_in_exponent_notation_are_numbers(write_yaml):
    assert read_recipe(write_yaml(BASE + "training: {learning_rate: 1e-3}")).training.learning_rate == 0.001


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(write_yaml):
    content = b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode()
    assert read_recipe(write_yaml(content)).sources == ("tag", "year")


def test_corpus_without_a_name_is_the_demo(write_yaml):
    assert read_recipe(write_yaml(BASE + "corpus: {tracks: 60}")).corpus.tracks == 60


# Files that are no recipes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- mss-cr\n", "not a mapping"),
        ("mss-cr", "not a mapping"),
        (b"\x80\x81", ":1: is not UTF-8"),
        (BASE.encode("utf-16"), "is not UTF-8"),
        (b"strategy: \x00", ":1: holds a NUL"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
        (b"#" * (limits.RECIPE_BYTES.default + 1), "larger than 100,000 bytes"),
        (BASE + "a: &x [1]\nb: *x", ":3: anchors"),
        (BASE + "seed: [" + "[" * 50_000, ":3: is nested"),
        (BASE + "seed: 1\nseed: 2", ":4: the key 'seed' stands twice, first in line 3"),
    ],
)
def test_content_that_is_no_recipe_is_one_line_with_the_file(write_yaml, content, words):
    path = write_yaml(content)
    message = fault(path)
    assert message.startswith(str(path))
    assert words in message


def test_a_missing_file_suggests_one_that_is_there(write_yaml):
    path = write_yaml(BASE, "ms-cr-2.yaml")
    message = fault(path.with_name("ms_cr_2.yaml"))
    assert "no such file" in message
    assert f"did you mean {path}?" in message


def test_places_that_are_no_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "file").write_text("")
    assert "is a folder" in fault(tmp_path)
    assert "not a regular file" in fault(tmp_path / "fifo.yaml")
    assert "not a regular file" in fault("/dev/zero")
    assert "cannot be read" in fault(tmp_path / "loop.yaml")
    assert "cannot be read" in fault(tmp_path / "file" / "recipe.yaml")
    assert "cannot be read" in fault(tmp_path / ("x" * 5000))
    assert "cannot be read" in fault("nul\0.yaml")


def test_what_pairs_shall_have_alike_must_be_on(write_yaml):
    path = write_yaml("strategy: ss-r\nsources: [self]\naugment: {swap: 0.5, alike: [mono]}")
    assert fault(path).startswith(f"{path}:3: augment.alike: 'mono' is off")


# Settings that are not allowed

WRONG = [
    # text after BASE, line, what the message must say
    ("trainin: {epochs: 2}", 3, ["trainin: unknown key", "did you mean 'training'?", "batches"]),
    ("training:\n  epoch: 2", 4, ["training.epoch: unknown key", "did you mean 'epochs'?", "learning_rate"]),
    (
        "training: {class_weights: {tag: balanced}}",
        3,
        ["training.class_weights.tag: 'tag' has no classes but topics"],
    ),
    (
        "contrast: {same_group: ignored}",
        3,
        ["contrast.same_group: needs groups of tracks, corpus.groups"],
    ),
    ("training: {learning_rate: 1.0e-300}", 3, ["training.learning_rate: 1e-300 is not allowed"]),
    ("training: {trunk_rate: 1.0e-300}", 3, ["training.trunk_rate: 1e-300 is not allowed", "at least 1e-06"]),
    ("augment: {mono: 0.5, alike: [mono]}", 3, ["augment.alike: needs the source 'self', whose pairs"]),
    ("augment: {mix: 0.5, alike: [mix]}", 3, ["augment.alike[0]: 'mix'", "gain, swap, mono"]),
    ("zzz: 1", 3, ["zzz: unknown key", "allowed here: name, strategy"]),
    ("<<: {seed: 1}", 3, ["<<: unknown key"]),
    ("corpus: {name: demo, trakcs: 60}", 3, ["corpus.trakcs: unknown key", "'tracks'", "collections"]),
    ("corpus: {name: folder, root: a, tracks: 60}", 3, ["corpus.tracks: unknown key", "groups"]),
    (
        "corpus: {name: dmeo}",
        3,
        ["corpus.name: 'dmeo'", "demo, folder, million_song", "did you mean 'demo'?"],
    ),
    ("corpus: {name: [demo]}", 3, ["corpus.name: ['demo']", "demo, folder, million_song"]),
    ("corpus: demo", 3, ["corpus: 'demo'", "'name' first"]),
    ("corpus: {name: folder}", 3, ["corpus.root: is missing"]),
    ("corpus: {name: folder, root: ''}", 3, ["corpus.root: ''", "a path"]),
    (
        "corpus: {name: folder, root: a, tables: {tag: {path: x, itm: y}}}",
        3,
        [
            "corpus.tables.tag.itm: unknown key; did you mean 'item'?",
            "path, from, target, track, value, item, weight",
        ],
    ),
    ("corpus: {name: folder, root: a, tables: {tag: {item: y}}}", 3, ["corpus.tables.tag.path: is missing"]),
    ("corpus: {name: folder, root: a, tables: {tag: 3}}", 3, ["corpus.tables.tag: 3", "a path or keys"]),
    (
        "corpus: {name: million_song, root: a, files: {tgas: x}}",
        3,
        ["corpus.files.tgas: unknown key; did you mean 'tags'?", "metadata, tracks, tempo"],
    ),
    ("corpus: {name: million_song, root: a, seed: -1}", 3, ["corpus.seed: -1", "at least 0"]),
    ('corpus: {name: folder, root: "a\\0b"}', 3, ["corpus.root:", "a path"]),
    ("corpus: {collections: ryan}", 3, ["corpus.collections: 'ryan'", "a list (each text)"]),
    ("corpus: {tracks: 3}", 3, ["corpus.tracks: 3", "at least 24 and at most 20000"]),
    ("targets: {sizes: {bmp: 3}}", 3, ["targets.sizes.bmp: 'bmp' has no table", "did you mean 'bpm'?"]),
    ("targets: {sizes: {bpm: 1}}", 3, ["targets.sizes.bpm: 1", "at least 2"]),
    ("targets: {sizes: {self: 3}}", 3, ["targets.sizes.self: 'self' always has 2 classes"]),
    (
        "targets: {sizes: {tag: 3}}\n"
        "corpus: {name: folder, root: a, tables: {tag: {path: x, target: classes}}}",
        3,
        ["targets.sizes.tag: 'tag' is learnt as classes, whose size its labels say"],
    ),
    (
        "training:\n  decay: cosin",
        4,
        ["training.decay: 'cosin'", "constant, cosine", "did you mean 'cosine'?"],
    ),
    ("training:\n\n  epochs: -2", 5, ["training.epochs: -2", "a whole number at least 1"]),
    ("training: {epochs: 2.0}", 3, ["training.epochs: 2.0", "a whole number"]),
    ("training: {epochs: '2'}", 3, ["training.epochs: '2'", "a whole number"]),
    ("training: {epochs: true}", 3, ["training.epochs: true", "a whole number"]),
    ("training: {epochs: .nan}", 3, ["training.epochs: not-a-number", "a whole number"]),
    (
        "training: {learning_rate: .inf}",
        3,
        ["training.learning_rate: infinity", "at least 1e-09 and at most 10"],
    ),
    ("training: {learning_rate: .nan}", 3, ["training.learning_rate: not-a-number"]),
    ("training: {learning_rate: 1e999}", 3, ["training.learning_rate: infinity"]),
    ("training: {learning_rate: -1e-3}", 3, ["training.learning_rate: -0.001"]),
    ("training: {xla: yes}", 3, ["training.xla: 'yes'", "'auto' or true or false"]),
    (
        "training: {steps_per_call: 0}",
        3,
        ["training.steps_per_call: 0", "'auto' or a whole number at least 1"],
    ),
    ("training:", 3, ["training: nothing (null)", "epochs, optimizer"]),
    ("training: [1]", 3, ["training: [1]", "keys with values"]),
    ("seed: 99999999999999999999", 3, ["seed: 99999999999999999999", "below 2147483648"]),
    ("seed: " + "9" * 99, 3, ["seed: 9999", "..."]),
    ("name: 5", 3, ["name: 5", "put it in quotes"]),
    ("name: a/b", 3, ["name: 'a/b'", "letters, digits"]),
    ("name: ..", 3, ["name: '..'", "the first a letter or digit"]),
    ("export: {name: '../up'}", 3, ["export.name: '../up'", "letters, digits"]),
    ("model: {dropout: 1}", 3, ["model.dropout: 1", "at least 0 and below 1"]),
    ("audio: {fft_samples: 1023}", 3, ["audio.fft_samples: 1023 is odd"]),
    ("audio: {segment_seconds: 0.5}", 3, ["audio.segment_seconds: a segment has 44 frames", "needs 64"]),
    ("batches: {size: 48}\ndistribution: {devices: 5}", 3, ["batches.size: 48 cannot be divided among 5"]),
    ("distribution: {devices: 3}", 3, ["batches.size: 128 cannot be divided among 3"]),
    ("batches: {size: 6, crops_per_visit: 4}", 3, ["batches.crops_per_visit: 4 must divide"]),
]


@pytest.mark.parametrize(("text", "line", "expected"), WRONG, ids=[case[0][:40] for case in WRONG])
def test_a_wrong_setting_names_file_line_key_and_what_is_allowed(write_yaml, text, line, expected):
    path = write_yaml(BASE + text)
    message = fault(path)
    assert message.startswith(f"{path}:{line}: {expected[0]}")
    assert all(words in message for words in expected), message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sources: [tag]", ["strategy: is missing", "ms-cr@2"]),
        ("strategy: mss-cr", ["sources: is missing", "a list (at least one; each one of self, bpm"]),
        ("strategy: ms-cr-2\nsources: [tag, year]", [":1: strategy: 'ms-cr-2'", "did you mean 'ms-cr@2'?"]),
        ("strategy: MSS-CR\nsources: [tag, year]", ["did you mean 'mss-cr'?"]),
        ("strategy: mss-cr\nsources: [tag, yaer]", [":2: sources[1]: 'yaer'", "did you mean 'year'?"]),
        ("strategy: mss-cr\nsources:\n- tag\n- cdr-tag", [":4: sources[1]: 'cdr-tag'", "'cdr_tag'?"]),
        ("strategy: mss-cr\nsources: tag", [":2: sources: 'tag'", "a list"]),
        ("strategy: ss-r\nsources: []", [":2: sources: []", "at least one"]),
        ("strategy: ss-r\nsources: [tag, year]", [":2: sources: strategy 'ss-r' takes one source, not 2"]),
        ("strategy: mss-cr\nsources: [tag]", [":2: sources: strategy 'mss-cr' takes two", "use 'ss-r'"]),
        ("strategy: mss-cr\nsources: [tag, tag]", ["each source may stand once"]),
        ("strategy: mss-cr\nsources: [tag, self]\nbatches: {size: 9, crops_per_visit: 3}", ["even batch"]),
    ],
)
def test_impossible_strategies_and_sources_are_refused(write_yaml, text, expected):
    message = fault(write_yaml(text))
    assert all(words in message for words in expected), message


def test_several_faults_show_the_unknown_key_first_and_count_the_others(write_yaml):
    path = write_yaml(BASE + "seed: -1\nmodel: {dropout: 2}\ntrainin: {}\n")
    message = fault(path)
    assert message.startswith(f"{path}:5: trainin: unknown key")
    assert message.endswith("(and 2 more)")


def test_one_bad_list_item_is_one_fault(write_yaml):
    assert "more)" not in fault(write_yaml("strategy: ss-r\nsources: [tga]"))


# Overrides


def test_overrides_apply_in_order_over_the_file(write_yaml):
    path = write_yaml(BASE + "training: {epochs: 9, decay: cosine}\n")
    recipe = read_recipe(
        path,
        [
            "training.epochs=2",
            "training.learning_rate=1e-3",
            "sources=[tag, year, self]",
            "corpus.tracks=60",
            "targets.sizes={bpm: 10}",
            "targets.sizes.year=12",
            "training.epochs=3",
            "export.name=null",
        ],
    )
    assert recipe.training.epochs == 3
    assert recipe.training.decay == "cosine"
    assert recipe.training.learning_rate == 0.001
    assert recipe.sources == ("tag", "year", "self")
    assert recipe.corpus.tracks == 60
    assert recipe.targets.sizes == {"bpm": 10, "year": 12}


def test_an_override_replaces_a_whole_section(write_yaml):
    path = write_yaml(BASE + "corpus: {name: demo, tracks: 60}")
    corpus = read_recipe(path, ["corpus={name: folder, root: music}"]).corpus
    assert (corpus.name, corpus.root) == ("folder", "music")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("training..epochs=3", "write KEY=VALUE"),
        ("training.epochs=two", "training.epochs: 'two' is not allowed; it takes a whole number"),
        ("training.epochs=-1", "training.epochs: -1"),
        ("training.epochs=", "training.epochs: nothing (null)"),
        ("training.epoch=3", "did you mean 'epochs'?"),
        ("trainning.epochs=3", "did you mean 'training'?"),
        ("sources=[tag, yaer]", "sources[1]: 'yaer'"),
        ("sources=[tag", "not valid YAML"),
        ("sources=&a [tag]", "anchors"),
        ("strategy=ss-r", "sources: strategy 'ss-r' takes one source, not 2"),
        ("distribution.devices=3", "batches.size: 128 cannot be divided among 3 replicas"),
        ("corpus.tracks=1", "corpus.tracks: 1"),
        ("seed.x=3", "seed: a mapping"),
        ("sources.0=tag", "sources is a value and has no keys"),
        ("a.b.c.d=1", "a: unknown key"),
    ],
)
def test_a_wrong_override_is_named(write_yaml, override, words):
    message = fault(write_yaml(BASE), override)
    assert message.startswith(f"override '{override}': ")
    assert words in message


def test_a_fault_of_the_file_is_not_blamed_on_an_override(write_yaml):
    path = write_yaml(BASE + "seed: -1")
    assert fault(path, "training.epochs=2").startswith(f"{path}:3: seed: -1")


# Writing

positive = st.floats(1e-6, 1.0, exclude_max=True)
paths = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=12
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
labelled = st.sampled_from(constants.SOURCES[1:])
corpora = st.one_of(
    st.fixed_dictionaries(
        {"name": st.just("demo")},
        optional={
            "tracks": st.integers(24, 20_000),
            "collections": st.none() | st.lists(paths, max_size=3),
            "validation_fraction": positive,
        },
    ),
    st.fixed_dictionaries(
        {"name": st.just("folder"), "root": paths},
        optional={"tables": st.dictionaries(labelled, paths, max_size=3), "groups": st.none() | paths},
    ),
    st.fixed_dictionaries({"name": st.just("million_song"), "root": paths}),
)
recipes = st.fixed_dictionaries(
    {
        "name": names,
        "strategy": st.sampled_from(constants.STRATEGIES[1:]),
        "sources": st.lists(st.sampled_from(constants.SOURCES), min_size=2, unique=True),
        "corpus": corpora,
    },
    optional={
        "targets": st.fixed_dictionaries(
            {"sizes": st.dictionaries(labelled, st.integers(2, 1000), max_size=3)}
        ),
        "model": st.fixed_dictionaries({"width": positive, "dropout": positive, "l2": positive}),
        "training": st.fixed_dictionaries(
            {
                "learning_rate": positive,
                "xla": st.just("auto") | st.booleans(),
                "steps_per_call": st.just("auto") | st.integers(1, 10_000),
            }
        ),
        "export": st.fixed_dictionaries({"directory": paths, "name": st.none() | names}),
        "seed": st.integers(0, 2**31 - 1),
    },
).map(Recipe.model_validate)


@given(recipe=recipes)
def test_what_is_written_reads_back_equal(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    write_recipe(path, recipe)
    again = read_recipe(path)
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()


# Anything at all

SECTIONS = {
    name: list(field.annotation.model_fields)
    for name, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
}
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | paths | st.sampled_from(["auto", "demo", "tag"])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(paths, inner, max_size=3)
)
drafts = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(Recipe.model_fields, anything),
        **{
            name: st.fixed_dictionaries({}, optional=dict.fromkeys(keys, anything))
            for name, keys in SECTIONS.items()
        },
        "corpus": anything
        | st.fixed_dictionaries(
            {"name": st.sampled_from(constants.CORPORA)},
            optional={"root": anything, "tables": anything, "tracks": anything},
        ),
        "strategy": st.sampled_from(constants.STRATEGIES) | anything,
        "sources": st.lists(st.sampled_from(constants.SOURCES) | anything, max_size=3) | anything,
    },
)


@given(draft=drafts | anything)
def test_whatever_a_file_says_it_is_a_recipe_or_one_line(tmp_path_factory, draft):
    path = tmp_path_factory.getbasetemp() / "anything.yaml"
    path.write_text(strict_yaml.dump(draft), encoding="utf-8")
    try:
        recipe = read_recipe(path)
    except RecipeError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)
    else:
        assert isinstance(recipe, Recipe)


@given(key=st.from_regex(r"[a-z_.]{0,20}", fullmatch=True) | paths, value=paths)
def test_whatever_an_override_says_it_is_a_recipe_or_one_line(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "base.yaml"
    path.write_text(BASE, encoding="utf-8")
    try:
        recipe = read_recipe(path, [f"{key}={value}"])
    except RecipeError as error:
        assert str(error).startswith("override ")
    else:
        assert isinstance(recipe, Recipe)


# The recipe itself


def test_names_in_the_recipe_are_those_of_the_constants():
    assert typing.get_args(StrategyName) == constants.STRATEGIES
    corpora = Recipe.model_json_schema()["properties"]["corpus"]["discriminator"]["mapping"]
    assert set(corpora) == set(constants.CORPORA)
    assert set(constants.VALUE_SOURCES) | set(constants.COUNT_SOURCES) | {"self"} == set(constants.SOURCES)


def test_a_recipe_cannot_be_changed(make_recipe):
    recipe = make_recipe()
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.epochs = 3


def test_fingerprint_is_the_same_in_another_process_and_changes_with_a_setting(make_recipe):
    recipe = make_recipe()
    code = (
        "from kerasrep.recipe.schema import Recipe;"
        f"print(Recipe.model_validate_json({recipe.model_dump_json()!r}).fingerprint())"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == recipe.fingerprint()
    assert make_recipe(seed=1).fingerprint() != recipe.fingerprint()
    assert make_recipe(sources=["year", "tag"]).fingerprint() != recipe.fingerprint()


def test_differences_are_settings_in_order_whatever_the_order_they_stand_in():
    old = {"b": {"y": 1, "x": [1, 2]}, "a": 0, "tables": {"tag": "t.csv"}, "same": {}}
    new = {"a": 0, "same": {}, "tables": {}, "b": {"x": [2, 1], "y": 2}, "c": {"d": True}}
    assert list(differences(old, new)) == [
        ("b.x", [1, 2], [2, 1]),
        ("b.y", 1, 2),
        ("c.d", None, True),
        ("tables.tag", "t.csv", None),
    ]
    assert [key for key, *_ in differences(old, new, [("b",), ("tables", "tag")])] == ["c.d"]
    assert not list(differences(old, {**old}))
