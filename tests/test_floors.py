"""The floors of the package: a module imports from its own floor or from a lower one, never from a higher one."""

import ast
from pathlib import Path

import pytest

import jensen

ROOT = Path(jensen.__file__).parent
FLOORS = {
    0: ("_alone", "_caution", "cache", "_typing", "_errors", "_arguments", "math"),
    1: ("core",),
    2: ("models", "families", "bounds", "estimators", "rules"),
    3: ("algorithms",),
    4: ("data", "fit", "result", "methods", "progress", "refining"),
    5: ("answers", "diagnostics", "plan", "interop", "equations"),
    6: ("cli", "extend", "report"),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = ["jensen", *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> int | None:
    """The floor of a module of jensen; the package's own `__init__` stands above all others."""
    parts = module.split(".")
    if parts == ["jensen"]:
        return max(FLOORS) + 1
    return FLOOR_OF.get(parts[1])


def imports(source: str, package: str) -> set[str]:
    """Modules of jensen imported while the source itself is imported: not in functions, nor for type checkers."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            # `from jensen import fit` imports the module, `from jensen import __version__` the package.
            if base == "jensen":
                known = {alias.name for alias in node.names if alias.name in FLOOR_OF}
                found.update(f"jensen.{name}" for name in known)
                if len(known) < len(node.names):
                    found.add("jensen")
            else:
                found.add(base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return {name for name in found if name.split(".")[0] == "jensen"}


def climbs(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that go up."""
    package = module if is_package else module.rpartition(".")[0]
    own = floor_of(module)
    if own is None:
        return []
    targets = sorted(imports(source, package))
    return [f"{module} imports {name}" for name in targets if (floor_of(name) or 0) > own]


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    assert climbs(module_name(path), path.read_text(), is_package=path.name == "__init__.py") == []


def test_every_module_has_a_floor():
    present = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert present - {"__init__", "__main__", "datasets"} <= set(FLOOR_OF)
    for floor in range(4):
        assert set(FLOORS[floor]) <= present


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jensen.math.noise", "from jensen.core import AbstractModel"),
        ("jensen.core.model", "import jensen.models.build"),
        ("jensen.core.model", "from ..models import build"),
        ("jensen.core.model", "from jensen import fit"),
        ("jensen.models.build", "from jensen import __version__"),
        ("jensen.families.gaussian", "if True:\n    from jensen.algorithms.advi import ADVI"),
        ("jensen.rules.gradient", "class A:\n    from jensen.diagnostics import check"),
        ("jensen.algorithms.advi", "try:\n    import jensen.fit\nexcept ImportError:\n    pass"),
        ("jensen.algorithms.advi", "if not TYPE_CHECKING:\n    from jensen.fit import fit"),
        ("jensen.algorithms.advi", "if TYPE_CHECKING:\n    pass\nelse:\n    from jensen.fit import fit"),
    ],
)
def test_a_planted_climb_is_found(module, source):
    assert len(climbs(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jensen.models.build", "from jensen.core import AbstractModel\nfrom jensen.families import MeanField"),
        ("jensen.models.build", "from ._private import helper\nfrom ..math import noise"),
        ("jensen.result", "def check(self):\n    from jensen.diagnostics import check"),
        (
            "jensen.result",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from jensen.diagnostics import Report",
        ),
        ("jensen.math.noise", "import numpy as np\nfrom jensenish import x"),
        ("jensen.cli", "from jensen import __version__, fit"),
    ],
)
def test_what_is_allowed(module, source):
    allowed_up = {"jensen.cli imports jensen"}  # the command line may ask the package for its version
    assert set(climbs(module, source)) <= allowed_up
