import importlib
import sys

import pytest

from nasbench.errors import RequestError
from nasbench.registry import Registry

MODULES = ["shapes_plugin", "broken_plugin", "absent", "absent_minded"]


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """User files on the Python path; none of them is imported yet."""
    (tmp_path / "shapes_plugin.py").write_text("class Circle:\n    pass\n\n\nsides = 4\n")
    (tmp_path / "broken_plugin.py").write_text("import absent_package\n")
    (tmp_path / "absent_minded.py").write_text("import absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def make_registry():
    return Registry("shape", {"circle": "shapes_plugin:Circle", "three": 3})


def test_nothing_is_imported_before_an_entry_is_asked_for(plugins):
    registry = make_registry()
    assert list(registry) == ["circle", "three"]
    assert len(registry) == 2
    assert "circle" in registry
    assert "square" not in registry
    registry.check("circle")
    registry.check("shapes_plugin:Circle")
    registry.register("square", "shapes_plugin:sides")
    assert registry["three"] == 3
    assert "shapes_plugin" not in sys.modules

    assert registry["circle"].__name__ == "Circle"
    assert "shapes_plugin" in sys.modules


def test_an_entry_stays_the_same_object(plugins):
    registry = make_registry()
    assert registry["circle"] is registry["circle"]
    assert registry["shapes_plugin:Circle"] is registry["circle"]


def test_a_name_with_a_colon_needs_no_registration(plugins):
    registry = Registry("shape")
    assert registry["shapes_plugin:sides"] == 4
    assert list(registry) == []


def test_registering_adds_a_name_that_is_free():
    registry = make_registry()
    registry.register("seven", 7)
    assert registry["seven"] == 7
    with pytest.raises(RequestError, match="a shape named 'seven' is registered already"):
        registry.register("seven", 8)
    assert registry["seven"] == 7


def test_the_mapping_that_it_was_made_of_stays_as_it_was():
    entries = {"three": 3}
    Registry("shape", entries).register("four", 4)
    assert entries == {"three": 3}


def test_a_name_that_looks_like_a_module_is_refused():
    with pytest.raises(RequestError, match="a shape's name has no ':', but it was 'a:b'"):
        make_registry().register("a:b", 1)


@pytest.mark.parametrize("ask", [lambda r, name: r[name], lambda r, name: r.check(name)])
def test_an_unknown_name_gets_the_closest_one(ask):
    with pytest.raises(RequestError) as error:
        ask(make_registry(), "cirle")
    assert str(error.value) == (
        "unknown shape 'cirle'; did you mean 'circle'? possible: circle, three"
    )


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("no_such_module:Circle", "shape 'no_such_module:Circle': there is no module 'no_such_mod"),
        ("shapes_plugin.inner:Circle", "there is no module 'shapes_plugin.inner' on the Python"),
        ("shapes_plugin:Square", "module 'shapes_plugin' has no 'Square'"),
        ("plugins/shapes.py:Circle", "there is no module 'plugins/shapes.py' on the Python path"),
        (":Circle", "shape ':Circle' has not the form module:object"),
        ("shapes_plugin:", "shape 'shapes_plugin:' has not the form module:object"),
        (".shapes_plugin:Circle", "shape '.shapes_plugin:Circle' has not the form module:object"),
    ],
)
def test_a_target_that_cannot_be_loaded_is_one_sentence(plugins, target, sentence):
    with pytest.raises(RequestError) as error:
        make_registry()[target]
    assert sentence in str(error.value)


def test_an_entry_that_names_no_object_is_one_sentence():
    with pytest.raises(RequestError, match=r"shape 'circle\.py' has not the form module:object"):
        Registry("shape", {"circle": "circle.py"})["circle"]


@pytest.mark.parametrize(
    ("module", "missing"), [("broken_plugin", "absent_package"), ("absent_minded", "absent")]
)
def test_what_a_users_module_lacks_is_not_blamed_on_its_name(plugins, module, missing):
    with pytest.raises(RequestError, match=f"cannot be imported: .* No module named '{missing}'"):
        make_registry()[f"{module}:Circle"]
