import pytest

import kerasrep


def test_every_public_name_is_there_and_listed():
    for name in kerasrep.__all__:
        assert getattr(kerasrep, name) is not None
        assert name in dir(kerasrep)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        kerasrep.lod  # noqa: B018


def test_recipes_are_read_through_the_package(write_yaml):
    recipe = kerasrep.read_recipe(write_yaml("strategy: ss-r\nsources: [tag]\n"), ["seed=3"])
    assert isinstance(recipe, kerasrep.Recipe)
    assert recipe.seed == 3
    with pytest.raises(kerasrep.KerasrepError, match="seed"):
        kerasrep.read_recipe(write_yaml("strategy: ss-r\nsources: [tag]\n"), ["seed=-3"])
