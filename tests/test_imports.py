"""The house's edges: who may import whom, read from the source without running it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import l402

ROOT = Path(l402.__file__).resolve().parent
#: The parts that stand alone, and the other parts of ours that each may import.
FOUNDATIONS = {
    "http": {"l402.errors"},
    "protocol": {"l402.errors"},
    "nodes": {"l402.errors", "l402.http", "l402.protocol.bolt11"},
    "rates": {"l402.errors", "l402.forks", "l402.http"},
    "store": {"l402.errors", "l402.forks", "l402.migrations"},
}
#: Each package from outside, and the parts of ours that alone may know it.
KNOWN_BY = {
    "flask_limiter": {"storages", "extension"},
    "limits": {"limits", "storages"},
    "requests": {"http"},
    "urllib3": {"http"},
    "alembic": {"store"},
    "sqlalchemy": {"store", "extension"},
    "psycopg": {"store"},
    "pymacaroons": {"protocol"},
    "coincurve": {"nodes"},
    "nostr_sdk": {"nodes"},
    "websockets": {"nodes"},
}
HOST_SIDE = {"flask", "werkzeug", "blinker", "click", "jinja2"}


def module_name(path):
    """The dotted name of a source file of ours."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("l402", *parts)).removesuffix(".__init__")


def imports(source, name, *, package):
    """Yield every dotted name that a module imports, relative ones resolved, wherever it stands."""
    base = name.split(".") if package else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*up, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def read_all():
    """Every module of ours, by name, with the names that it imports."""
    return {
        module_name(path): set(
            imports(path.read_text(), module_name(path), package=path.name == "__init__.py")
        )
        for path in sorted(ROOT.rglob("*.py"))
    }


MODULES = read_all()


def part(module):
    """The part of the house that a module of ours stands in."""
    return module.removeprefix("l402").removeprefix(".").partition(".")[0]


def within(name, *packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def edges():
    """Each import of ours by ours as a pair of modules; a name within a module is that module."""
    for module, names in MODULES.items():
        for name in names:
            while within(name, "l402") and name not in MODULES:
                name = name.rpartition(".")[0]
            if within(name, "l402") and name != module:
                yield module, name


def strays(foundation, allowed):
    """The imports of a foundation that lead where it may not."""
    for module, names in MODULES.items():
        if part(module) != foundation:
            continue
        for name in names:
            ours = within(name, "l402") and not within(name, f"l402.{foundation}", *allowed)
            if ours or within(name, *HOST_SIDE):
                yield f"{module} imports {name}"


@pytest.mark.parametrize(("foundation", "allowed"), FOUNDATIONS.items(), ids=FOUNDATIONS)
def test_foundations_stand_alone(foundation, allowed):
    """The foundations import neither Flask nor, but for what is named, one another."""
    assert any(part(module) == foundation for module in MODULES)
    assert not list(strays(foundation, allowed))


@pytest.mark.parametrize(("package", "parts"), KNOWN_BY.items(), ids=KNOWN_BY)
def test_outsiders_are_known_in_one_place(package, parts):
    """Each dependency is spoken to by the one part that wraps it."""
    assert not [
        f"{module} imports {name}"
        for module, names in MODULES.items()
        for name in names
        if within(name, package) and part(module) not in parts
    ]


def test_the_doctor_is_asked_by_the_command_line_alone():
    """Nothing that serves requests knows the doctor, and it knows the app by its gate."""
    askers = {part(module) for module, name in edges() if part(name) == "doctor"}
    known = {part(name) for module, name in edges() if part(module) == "doctor"}
    assert askers <= {"doctor", "cli"}
    assert not known & {"cli", "extension", "paywall", "blueprint", ""}


def test_extension_takes_little_of_sqlalchemy():
    """The extension reads database URLs with SQLAlchemy, and does nothing else with it."""
    names = {name for name in MODULES["l402.extension"] if within(name, "sqlalchemy")}
    assert names <= {"sqlalchemy.engine.make_url"}


def test_no_cycles():
    """Imports run one way."""
    graph = {module: set() for module in MODULES}
    for module, name in edges():
        graph[module].add(name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_the_edges_are_seen():
    """The reading finds known imports, so that a silent one cannot pass for none."""
    assert ("l402.nodes.desk", "l402.protocol.bolt11") in set(edges())
    assert "flask.Flask" in MODULES["l402.extension"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import flask", "flask"),
        ("import flask as f", "flask"),
        ("from flask import g", "flask.g"),
        ("def f():\n    from flask import g", "flask.g"),
        ("if x:\n    import flask.views", "flask.views"),
        ("from . import lnd", "l402.nodes.lnd"),
        ("from .lnd import Lnd", "l402.nodes.lnd.Lnd"),
        ("from .. import store", "l402.store"),
        ("from ..store import tables", "l402.store.tables"),
    ],
)
def test_reads_every_way_to_import(source, found):
    """Absolute and relative imports are found, at the top and within."""
    assert set(imports(source, "l402.nodes.desk", package=False)) == {found}


def test_reads_relative_imports_of_a_package():
    """In a package's own file one dot is the package itself."""
    assert set(imports("from .lnd import Lnd", "l402.nodes", package=True)) == {
        "l402.nodes.lnd.Lnd"
    }
