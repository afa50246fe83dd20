"""The rooms of the package: which may import from which, and what of a room the others see.

Every import counts, those inside functions too; imports for type checkers alone do not.
"""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import jensen

ROOT = Path(jensen.__file__).parent
EVERY = None
# From the ground up: a room imports from rooms before it. Beside each its face, the modules that others may import;
# its own `__init__` belongs to it always.
ROOMS = {
    "_base": EVERY,
    "_math": EVERY,
    "_core": "algorithm estimates family options",
    "_bounds": "",
    "_data": "arguments columns data_check sources",
    "_program": (
        "analysis bijection contract dependence folding host_function identity imputation indices log_density "
        "movement_rules nan_comparisons number_widths on_host primitive_kinds programs purity scans statements "
        "static_arguments structure structures supports user_code with_data"
    ),
    "_families": (
        "chains exponential exponential.contract flow gaussian heavier location_scale native native.contract structured"
    ),
    "_discrete": "",
    "_model": (
        "build by_site door missing native numpyro one_rotation parameters parameters.charts prior_draws program "
        "reduced_density restricted row_subsets subsample target views"
    ),
    "_estimators": "neighbours recipes regression score_function",
    "_ascent": "counting moves rules stochastic table",
    "_modes": "climbs continuous hard_edge improper_posterior relabelling resolution",
    "_verdict": (
        "answer bridge check checks checks.mixing checks.moments checks.sweeps evidence importance labellings "
        "moments packing states summed_likelihood surgery table unconstrained verdict"
    ),
    "_conjugate": (
        "algebra algebra.blocks algebra.candidates algebra.derived algebra.energy algebra.model algebra.statistics "
        "algebra.partial algebra.terms answer cavi coordinate.ascent coordinate.collapse coordinate.density "
        "coordinate.gibbs coordinate.optima coordinate.plated coordinate.refusals coordinate.solution "
        "coordinate.starts coordinate.stream coordinate.weighing factor_checks naive streamed_answer svi "
        "swept_answer"
    ),
    "_nested": "emulation noncentred",
    "_gaussian": (
        "account "
        "advi answer chains_answer collapsing escalation family_comparison "
        "flexible_answer laplace natural_gaussian nuts on_target pathfinder richer_families rotations "
        "start_from_factors"
    ),
    "_blackbox": "answer bbvi learned recipes start",
    "_hierarchical": "answer family.features fitting.rows fitting.weights hvm nested_estimator",
    "_amortised": "amortised answer",
    "_auto": "auto nested target",
    "_learning": "",
    "_explain": "plan plan.explain",
    "_report": "html plots",
    "_fit": "fit methods result saving",
    "_cli": "app",
}
PUBLIC = [
    "__main__",
    "algorithms",
    "bounds",
    "cache",
    "cli",
    "core",
    "data",
    "datasets",
    "diagnostics",
    "estimators",
    "extend",
    "families",
    "plots",
]
"""What users import by name: faces of rooms, data sets, and the command line. Rooms do not import them."""
EXEMPT = {("_fit", "algorithms"), ("_cli", ""), ("_cli", "datasets")}
"""The methods by name, and the command line, which is a user itself."""


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = ["jensen", *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room_of(module: str) -> str:
    """The first name after jensen's own; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def imports(source: str, package: str, known: Iterable[str]) -> Iterator[str]:
    """Modules of jensen that a source imports, at its top, in classes and in functions."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                yield from visit(child)
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            whole = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in known]
            yield from whole
            if len(whole) < len(node.names):
                yield base
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    found = set(visit(ast.parse(source)))
    return (name for name in sorted(found) if name.partition(".")[0] == "jensen")


def imported(module: str, source: str, *, is_package: bool = False) -> list[str]:
    return list(imports(source, module if is_package else module.rpartition(".")[0], SOURCES))


def offences(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Imports of a module that go up, out of the house, or past another room's face."""
    own, order, found = room_of(module), list(ROOMS), []
    if own not in ROOMS:
        return []
    for name in imported(module, source, is_package=is_package):
        room = room_of(name)
        if room == own or (own, room) in EXEMPT:
            continue
        face = ROOMS.get(room, "")
        inside = name.partition(f".{room}.")[2]
        if room not in ROOMS:
            found.append(f"{module} imports {name}, which is for users")
        elif order.index(room) > order.index(own):
            found.append(f"{module} imports {name}, a room above it")
        elif inside and face is not EVERY and inside not in face.split():
            found.append(f"{module} imports {name}, the inside of another room")
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other: what is left after those without imports are taken away, repeatedly."""
    left = {name: set(others) & set(graph) - {name} for name, others in graph.items()}
    while free := [name for name, others in left.items() if not others]:
        left = {name: others - set(free) for name, others in left.items() if name not in free}
    back: dict[str, set[str]] = {name: set() for name in left}
    for name, others in left.items():
        for other in others:
            back[other].add(name)
    while free := [name for name, others in back.items() if not others]:
        back = {name: others - set(free) for name, others in back.items() if name not in free}
    return [sorted(back)] if back else []


@functools.cache
def graph() -> dict[str, set[str]]:
    texts = {name: path.read_text() for name, path in SOURCES.items()}
    return {
        name: {other for other in imported(name, text, is_package=SOURCES[name].name == "__init__.py")}
        for name, text in texts.items()
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_the_faces_of_rooms_below_it(room):
    found = [
        offence
        for name, path in SOURCES.items()
        if room_of(name) == room
        for offence in offences(name, path.read_text(), is_package=path.name == "__init__.py")
    ]
    assert found == []


def test_the_architecture_page_shows_every_room():
    page = Path(__file__).parents[1] / "ARCHITECTURE.md"
    assert [room for room in ROOMS if room not in page.read_text(encoding="utf-8")] == []


def test_every_module_is_in_a_room_or_public():
    assert {room_of(name) for name in SOURCES} - {""} == {*ROOMS, *PUBLIC}


def test_no_two_modules_import_each_other():
    assert circles(graph()) == []


def test_a_face_holds_what_others_import_and_no_more():
    seen = {other for name, others in graph().items() for other in others if room_of(other) != room_of(name)}
    stale = [
        f"{room}.{inside}"
        for room, face in ROOMS.items()
        for inside in (face or "").split()
        if f"jensen.{room}.{inside}" not in seen
    ]
    assert stale == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jensen._math.noise", "from jensen._core import AbstractModel"),
        ("jensen._core.model", "import jensen._model.build"),
        ("jensen._core.model", "from .._model import build"),
        ("jensen._core.model", "from jensen import _model"),
        ("jensen._core.model", "def later():\n    from jensen._model.build import build"),
        ("jensen._program.analysis", "from jensen import fit"),
        ("jensen._families.gaussian", "if True:\n    from jensen._gaussian.advi import ADVI"),
        ("jensen._families.gaussian", "class A:\n    from jensen._verdict import check"),
        ("jensen._gaussian.advi", "try:\n    import jensen._fit.fit\nexcept ImportError:\n    pass"),
        ("jensen._gaussian.advi", "if not TYPE_CHECKING:\n    from jensen._fit.fit import fit"),
        ("jensen._gaussian.advi", "if TYPE_CHECKING:\n    pass\nelse:\n    from jensen._fit.fit import fit"),
        ("jensen._fit.fit", "from jensen._conjugate.coordinate.polish import polished"),
        ("jensen._fit.fit", "def later():\n    from jensen._program.traced_inside import run"),
        ("jensen._fit.fit", "from jensen.bounds import ELBO"),
    ],
)
def test_a_planted_offence_is_found(module, source):
    assert len(offences(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jensen._model.build", "from jensen._core import AbstractModel\nfrom jensen._families import MeanField"),
        ("jensen._model.build", "from ._private import helper\nfrom .._math import noise"),
        ("jensen._fit.result", "def check(self):\n    from jensen._verdict import check"),
        ("jensen._verdict.table", "if TYPE_CHECKING:\n    from jensen._fit.result import Fit"),
        ("jensen._math.noise", "import numpy as np\nfrom jensenish import x"),
        ("jensen.cli", "from jensen._cli import main"),
    ],
)
def test_what_is_allowed(module, source):
    assert offences(module, source) == []


def test_a_planted_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_function_is_longer_than_a_page():
    long = [
        f"{module}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for module, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60
    ]
    assert long == []
