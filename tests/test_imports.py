"""Imports go one way through the package, and what is pure knows nothing of fairseq: read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ccc_w2v"
# Top to bottom. A room imports rooms of lower rows; within a row, none of those that import it.
ROWS = [
    ["__main__", "cli"],
    ["report", "export", "benchmark", "comparison", "gpu_report", "selection", "warm_start"],
    ["decode", "score", "lm", "probe"],
    ["checkpoint"],
    ["planning"],
    ["task", "model", "criterion", "capi"],
    ["masked_prediction"],
    ["settings"],
    ["dataset", "training"],
    ["augment", "losses", "corpora"],
    ["data"],
    [
        "bf16_layers",
        "capacity",
        "compat",
        "compat_half",
        "errors",
        "feature_encoder",
        "files",
        "forward_hooks",
        "freed_memory",
        "run_folder",
        "sharding",
        "shared_files",
        "text_files",
        "user_cache",
    ],
]
HEIGHT = {room: -row for row, rooms in enumerate(ROWS) for room in rooms}
# What `import` of it would load fairseq.
WITHOUT_FAIRSEQ = [
    "losses",
    "score",
    "augment",
    "data",
    "report",
    "planning",
    "corpora",
    "errors",
    "files",
    "run_folder",
]


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {path: path.relative_to(PACKAGE.parent).with_suffix("").parts for path in PACKAGE.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in paths.items()}


def imports_of(path: Path, known: dict[str, Path], *, everywhere: bool = True) -> Iterator[str]:
    """Yield the dotted names of the modules that a source imports; not ``everywhere``: only as it loads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else top_level(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes outside functions and `if TYPE_CHECKING`."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))


def room(module: str) -> str:
    """Return the folder or file directly in the package that a module is in; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def edges(*, everywhere: bool = True) -> set[tuple[str, str]]:
    """Return all pairs of an importing and an imported module of the package."""
    known = modules()
    pairs = ((name, imported) for name in known for imported in imports_of(known[name], known, everywhere=everywhere))
    return {(name, imported) for name, imported in pairs if imported in known and imported != name}


def cycle(pairs: set[tuple[str, str]]) -> list[str]:
    """Return the names along one cycle of a graph; none where it has none."""
    below: dict[str, set[str]] = {}
    for name, imported in pairs:
        below.setdefault(name, set()).add(imported)
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in finished:
            for imported in sorted(below.get(name, ())):
                if circle := visit(imported, [*path, name]):
                    return circle
            finished.add(name)
        return []

    return next((circle for name in sorted(below) if (circle := visit(name, []))), [])


def test_every_room_has_its_row():
    assert {room(name) for name in modules()} - {""} <= set(HEIGHT)


def test_no_import_goes_up():
    upwards = [
        f"{name} imports {imported}"
        for name, imported in sorted(edges())
        if room(name) and room(imported) and HEIGHT[room(name)] < HEIGHT[room(imported)]
    ]
    assert upwards == []


def test_rooms_do_not_import_each_other_in_a_circle():
    rooms = {(room(name), room(imported)) for name, imported in edges() if room(name) and room(imported)}
    assert cycle({pair for pair in rooms if pair[0] != pair[1]}) == []


def test_modules_do_not_import_each_other_in_a_circle():
    assert cycle({pair for pair in edges() if "ccc_w2v" not in pair}) == []


@pytest.mark.parametrize("name", WITHOUT_FAIRSEQ)
def test_pure_rooms_reach_no_fairseq(name):
    """Through whatever they import as they are imported; a function may import it where a user asks for it."""
    known = modules()
    below: dict[str, list[str]] = {}
    todo = [(module, module) for module in known if room(module) == name]
    while todo:
        module, path = todo.pop()
        if module in below:
            continue
        below[module] = []
        for imported in imports_of(known[module], known, everywhere=False):
            assert imported.partition(".")[0] != "fairseq", f"{path} -> {imported}"
            if imported in known and imported != "ccc_w2v":
                todo.append((imported, f"{path} -> {imported}"))


def test_losses_and_scoring_never_name_fairseq():
    known = modules()
    named = [
        name
        for name in known
        if room(name) in ("losses", "score")
        for imported in imports_of(known[name], known)
        if imported.partition(".")[0] == "fairseq"
    ]
    assert named == []


def test_a_circle_is_found():
    assert cycle({("a", "b"), ("b", "c"), ("c", "b")}) == ["b", "c", "b"]
    assert cycle({("a", "b"), ("b", "c"), ("a", "c")}) == []


def test_a_class_name_is_defined_once():
    """One meaning for each name, so that a reader who has met it once knows it everywhere."""
    names: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert len(names) > 100
    assert {name: places for name, places in names.items() if len(places) > 1} == {}
