"""Which modules others can import is judged once, and on the side of importable."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloudpickle.cloudpickle import list_registry_pickle_by_value, unregister_pickle_by_value

from actors import modules

CODE = "class Thing:\n    class Part: pass\nAlias = Thing\n"


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(modules, "_judged", {"__main__"})
    before = list_registry_pickle_by_value()
    yield
    for name in list_registry_pickle_by_value() - before:
        unregister_pickle_by_value(sys.modules[name])


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def loaded(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module loaded by its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(CODE)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "os",
        "sys",
        "json.decoder",
        "posixpath",
        "zipimport",
        "numpy",
        "numpy.linalg",
        "pyexpat.errors",
        "actors.ref",
        "kit",
    ],
)
def test_what_any_process_can_import_goes_by_reference(name: str) -> None:
    """Frozen, built-in, compiled (also what a compiled module makes itself), and plain ones."""
    importlib.import_module(name.partition(".errors")[0])
    assert not modules.judge(name)
    assert not modules.by_value(name)


def test_a_module_on_the_path_goes_by_reference(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (on_path / "onpath_package").mkdir()
    (on_path / "onpath_package" / "part.py").write_text(CODE)
    part = importlib.import_module("onpath_package.part")
    monkeypatch.setitem(sys.modules, "onpath_package.part", part)
    assert not modules.judge("onpath_package.part")
    assert modules.reference(part.Thing.Part) == "onpath_package.part:Thing.Part"


def test_a_file_that_is_not_on_the_path_goes_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded("offpath", tmp_path / "offpath.py", monkeypatch)
    assert modules.reference(module.Thing) == "offpath:Thing"
    assert modules.judge("offpath")
    assert modules.by_value("offpath") and modules.reference(module.Thing) is None
    assert not modules.judge("offpath"), "it is judged once"


def test_another_file_of_that_name_on_the_path_is_another_module(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (on_path / "namesake.py").write_text("")
    loaded("namesake", tmp_path / "plugins" / "namesake.py", monkeypatch)
    assert modules.judge("namesake") and modules.by_value("namesake")


def test_a_file_below_a_package_that_nobody_finds_goes_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pytest names test files by their folders."""
    monkeypatch.setitem(sys.modules, "nowhere", types.ModuleType("nowhere"))
    loaded("nowhere.part", tmp_path / "part.py", monkeypatch)
    assert modules.judge("nowhere.part") and modules.by_value("nowhere.part")


def test_a_module_made_by_hand_goes_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "byhand", types.ModuleType("byhand"))
    assert modules.judge("byhand")


def test_a_module_that_a_package_makes_is_taken_for_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As six.moves: importing the package makes it."""
    monkeypatch.setitem(sys.modules, "json.made", types.ModuleType("json.made"))
    assert not modules.judge("json.made")


def test_a_finder_that_raises_is_passed_over(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            raise KeyError(name)

    (on_path / "found_later.py").write_text("")
    monkeypatch.setitem(sys.modules, "found_later", importlib.import_module("found_later"))
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert not modules.judge("found_later")


def test_a_module_that_is_gone_is_not_judged() -> None:
    assert not modules.judge("never.was")
    assert not modules.send_by_value("never.was")


def test_what_is_refused_elsewhere_goes_by_value_with_all_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("refused")
    monkeypatch.setitem(sys.modules, "refused", package)
    assert modules.send_by_value("refused")
    assert modules.by_value("refused") and modules.by_value("refused.part") and not modules.by_value("refusedtoo")
    assert not modules.send_by_value("refused"), "it is no news"
