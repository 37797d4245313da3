"""Imports point one way: a part of the package knows what stands below it, never what stands above.

And internals of other packages are used in `jaxloco/internals/` only.
"""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jaxloco"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    (
        "checks",
        "cores",
        "installation",
        "option_hints",
        "recording_options",
        "reflections",
        "registry",
        "statistics",
        "streams",
        "terrain",
        "text_files",
        "whole_files",
    ),
    ("exercises", "internals", "onboard", "options", "policy_index", "toml_schema"),
    ("actuator_bench", "formats", "joint_guesses", "legs", "loops", "policies", "self_contact"),
    ("robot",),
    ("logs", "rehearsal"),
    ("physics", "symmetry"),
    ("envs", "learning"),  # neither knows the other
    ("exporting", "visual"),
    ("training",),
    ("demonstrations",),
    ("tasks",),
    ("interop", "runs"),
    ("actuator_fit", "doctor", "identification", "model_import", "playback", "zoo"),
    ("robustness",),
    ("bench", "gap", "library"),
    ("comparison", "stages", "viewer"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""Parts of the package from the lowest to the highest. Those of one layer do not know each other."""

TOGETHER = {frozenset({"doctor", "model_import"}), frozenset({"joint_guesses", "legs"})}
"""Parts of one layer that may: the doctor reads models as the import does, which asks the doctor what is wrong."""


def heights() -> dict[str, int]:
    return {part: height for height, layer in enumerate(LAYERS) for part in layer}


def imports(file: Path) -> set[str]:
    """Parts of jaxloco that a file imports, anywhere in it but for the type checker alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in _run(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxloco":
            names = [node.module] if node.module != "jaxloco" else [f"jaxloco.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names if name.name.startswith("jaxloco.")]
        else:
            continue
        found |= {name.split(".")[1] for name in names}
    return found - {"__version__"}


def _run(node: ast.AST):
    """Every node but those below `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run(child)


def files() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or file.stem != "__init__"]


def test_every_part_has_its_layer():
    parts = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in files()}
    assert parts == set(heights())


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_import_points_upwards(file):
    own, height = file.relative_to(PACKAGE).parts[0].removesuffix(".py"), heights()
    wrong = {
        part
        for part in imports(file) - {own}
        if height[part] > height[own] or (height[part] == height[own] and frozenset({part, own}) not in TOGETHER)
    }
    assert not wrong, f"{own} must not know {', '.join(sorted(wrong))}"


def test_an_arrow_upwards_is_found(tmp_path):
    file = tmp_path / "low.py"
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from jaxloco.cli import main\n"
    file.write_text(text + "def f():\n    from jaxloco.training import loop\n    import jaxloco.envs.env\n")
    assert imports(file) == {"training", "envs"}


PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""Names with an underscore that are documented: of named tuples, and of `os`."""

CTYPES = {"whole_files.py"}
"""Files beside `jaxloco/internals/` that call C: the system's own library, for what Python's `os` lacks."""


def internals(file: Path) -> list[str]:
    """What a file uses of other packages that these do not promise to keep, with its lines."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own = {name for node in ast.walk(tree) for name in _defined(node)}
    return [f"line {node.lineno}: {name}" for node in ast.walk(tree) for name in _private(node, own)]


def _defined(node: ast.AST):
    """Names with an underscore that a file gives to what is its own."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and _is_self(node.value):
        yield node.attr


def _is_self(node: ast.AST) -> bool:
    called_super = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    return called_super or (isinstance(node, ast.Name) and node.id in ("self", "cls"))


def _private(node: ast.AST, own: set[str]):
    names: list[str] = []
    if isinstance(node, ast.Attribute) and not _is_self(node.value):
        names = [node.attr]
    elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("jaxloco"):
        names = [*(node.module or "").split("."), *(name.name for name in node.names)]
    elif isinstance(node, ast.Import):
        names = [part for name in node.names if not name.name.startswith("jaxloco") for part in name.name.split(".")]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
        names = [node.args[1].value] if isinstance(node.args[1], ast.Constant) else []
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
        names = [part for part in re.split(r"[./]", node.value) if part == "_src"]
    for name in names:
        private = name.startswith("_") and not name.startswith("__") and name not in PUBLIC | own
        if private or name in ("third_party", "ctypes", "unsafe"):
            yield name


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_internals_of_other_packages_are_used_in_one_folder(file):
    found = [] if file.relative_to(PACKAGE).parts[0] == "internals" else internals(file)
    if file.relative_to(PACKAGE).name in CTYPES:
        found = [place for place in found if not place.endswith(" ctypes")]
    assert not found, (
        f"{found}: belongs into jaxloco/internals/, with a reason, a check and a slower way (its docstring)"
    )


def test_what_is_internal_is_found(tmp_path):
    file = tmp_path / "leaning.py"
    file.write_text(
        "import ctypes\nfrom jax._src import core\nfrom mujoco import _callbacks\nimport mujoco.mjx.third_party.x\n"
        "model._address\ngetattr(put, '_impl', None)\nsource = 'mujoco_warp/_src/types.py'\n"
        "class Own:\n    def __init__(self, other):\n        self._x = other._x\n        other._replace(a=1)\n"
        "        super()._y()\n        other.__name__\n"
    )
    names = [place.split(": ")[1] for place in internals(file)]
    assert sorted(names) == ["_address", "_callbacks", "_impl", "_src", "_src", "ctypes", "third_party"]


def test_what_is_internal_is_in_the_developers_table():
    page = (PACKAGE.parent / "docs" / "internals.md").read_text(encoding="utf-8")
    named = {file.stem for file in (PACKAGE / "internals").glob("*.py")} - {"__init__", "meanwhile"}
    assert named == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
