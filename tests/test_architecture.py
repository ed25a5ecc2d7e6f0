"""The rules of the house that a parser can check; the reasons stand in CONTRIBUTING.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import neurochains

ROOT = Path(neurochains.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = (
    ("network", "data"),
    ("edit",),
    ("chains", "circuits", "decoupling"),
    ("measures", "pictures"),
    ("extraction",),
    ("studies", "report", "explorer"),
    ("cli",),
)
FLOOR_OF = {folder: floor for floor, folders in enumerate(FLOORS, 1) for folder in folders}
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 40


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def folder_of(parts: tuple[str, ...]) -> str:
    """The folder that a dotted path inside the package lies in; "" for the modules at the top: the ground floor."""
    return parts[0] if parts and (parts[0] in FLOOR_OF or (ROOT / parts[0]).is_dir()) else ""


def imports(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """The dotted paths inside the package that a module imports anywhere, without "neurochains" itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "neurochains")


def is_hidden_module(folder: str, name: str) -> bool:
    """Whether a name in a folder is a module and not a public name of the folder."""
    front = ROOT / folder / "__init__.py"
    public = exported(ast.parse(front.read_text())) if front.exists() else set()
    return (ROOT / folder / f"{name}.py").exists() and name not in public


def wrong_arrows(path: Path, source: str) -> list[str]:
    """Imports that go up, sideways into another folder's insides, or between network and data."""
    home = folder_of(path.relative_to(ROOT).parts[:-1])
    floor = FLOOR_OF.get(home, 0)
    wrong = []
    for parts in imports(ast.parse(source)):
        folder = folder_of(parts)
        other = FLOOR_OF.get(folder, 0)
        inside = len(parts) > 2 or (len(parts) == 2 and is_hidden_module(*parts))
        sideways = folder != home and other == floor and (inside or {folder, home} == {"network", "data"})
        if other > floor or sideways:
            wrong.append(".".join(parts))
    return wrong


def modules() -> list:
    return [pytest.param(path, id=name_of(path)) for path in FILES]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in named if argument is not None} - {"self", "cls"}


def exported(tree: ast.Module) -> set[str]:
    """The names in a module's `__all__`."""
    lists = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and "__all__" in map(ast.unparse, node.targets)
    ]
    return {name for names in lists for name in ast.literal_eval(names)}


def public_names(path: Path) -> set[str]:
    """What the folder of a module exports; at the top, what the module itself exports."""
    folder = folder_of(path.relative_to(ROOT).parts[:-1])
    front = ROOT / folder / "__init__.py" if folder else path
    return exported(ast.parse(front.read_text())) if front.exists() else set()


def public_functions(tree: ast.Module, names: set[str]) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of these names, and the public methods of the classes of these names."""
    homes = [node for node in tree.body if getattr(node, "name", None) in names]
    found = [function for home in homes for function in functions(home)]
    return [function for function in found if function in homes or not function.name.startswith("_")]


def asserts_about_arguments(source: str, names: set[str]) -> list[int]:
    """Lines on which a public function or method asserts something about a parameter of its own."""
    return [
        node.lineno
        for function in public_functions(ast.parse(source), names)
        for node in ast.walk(function)
        if isinstance(node, ast.Assert)
        and parameters(function) & {name.id for name in ast.walk(node.test) if isinstance(name, ast.Name)}
    ]


def calls(tree: ast.AST) -> Iterator[str]:
    """What is called by a plain or a dotted name, such as "print" and "torch.save"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            yield ast.unparse(node.func)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function's body without its docstring; a signature may list what a command takes, line by line."""
    docstring = ast.get_docstring(function, clean=False)
    total = (function.end_lineno or function.lineno) - function.body[0].lineno + 1
    return total - (docstring.count("\n") + 1 if docstring else 0)


def test_every_folder_has_a_floor():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders <= FLOOR_OF.keys()


@pytest.mark.parametrize("path", modules())
def test_arrows_point_one_way(path):
    if path != ROOT / "__init__.py":  # the front door names everything, lazily
        assert wrong_arrows(path, path.read_text()) == []


@pytest.mark.parametrize("path", modules())
def test_arguments_are_validated_with_errors_not_asserts(path):
    assert asserts_about_arguments(path.read_text(), public_names(path)) == []


@pytest.mark.parametrize("path", modules())
def test_nothing_is_printed_logged_evaluated_or_pickled(path):
    forbidden = {"print", "eval", "exec", "logging.basicConfig", "torch.save"}
    called = set(calls(ast.parse(path.read_text())))
    assert not called & forbidden
    assert not {name for name in called if name.startswith(("pickle.", "marshal."))}


@pytest.mark.parametrize("path", modules())
def test_files_and_functions_stay_short(path):
    source = path.read_text()
    long = {function.name: length(function) for function in functions(ast.parse(source))}
    assert {name: lines for name, lines in long.items() if lines > LINES_OF_A_FUNCTION} == {}
    assert source.count("\n") <= LINES_OF_A_FILE


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("network/graph.py", "from neurochains.edit import tap", ["edit.tap"]),
        ("network/graph.py", "from neurochains.data import Task", ["data.Task"]),
        ("network/graph.py", "def f():\n    import neurochains.cli", ["cli"]),
        ("network/graph.py", "from neurochains import data", ["data"]),
        ("network/graph.py", "from neurochains.network.zoo import load_model", []),
        ("preprocess.py", "from neurochains.network import Network", ["network.Network"]),
        ("network/graph.py", "from neurochains.errors import ModelError\nimport torch", []),
    ],
)
def test_the_check_of_arrows_sees_wrong_ones(file, source, wrong):
    assert wrong_arrows(ROOT / file, source) == wrong


def test_the_check_of_asserts_sees_wrong_ones():
    source = """
def f(a):
    b = g(a)
    assert b
    assert a > 0
def g(a):
    assert a
class C:
    def m(self, b):
        assert b.ndim
    def _m(self, b):
        assert b
"""
    assert asserts_about_arguments(source, {"C", "f"}) == [5, 10]
    assert exported(ast.parse('__all__ = ["C", "f"]')) == {"C", "f"}
