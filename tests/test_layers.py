"""Imports point one way: a part of the package knows what stands below it, never what stands above."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jaxloco"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("checks", "cores", "reflections", "registry", "statistics", "streams", "terrain", "text_files", "whole_files"),
    ("onboard", "options", "toml_schema"),
    ("joint_entries", "joint_guesses", "legs", "loops", "self_contact"),
    ("robot",),
    ("physics", "symmetry"),
    ("envs", "learning"),  # neither knows the other
    ("exporting", "visual"),
    ("training",),
    ("tasks",),
    ("interop", "runs", "zoo"),
    ("doctor", "model_import", "playback"),
    ("bench", "library"),
    ("comparison",),
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
