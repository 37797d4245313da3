"""The notebooks run from the first cell to the last, in miniature; those of the course with their solutions."""

import ast
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from jaxloco.exercises import EXERCISES, check
from jaxloco.learning.temporal import TCNConfig
from jaxloco.onboard.convolutions import reach

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COURSE = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
SMALL = {"n_envs": 16, "total_timesteps": 1024}
MINIATURES: dict[str, dict[str, object]] = {
    "first_policy": {
        "total_timesteps": 4096,
        "n_envs": 16,
        "eval_episodes": 2,
        "video_seconds": 0.1,
        "simulator_episodes": 1,
    },
    "1_environments": {"n_envs": 4, "seconds": 0.1},
    "2_values": {"angles": 11, "speeds": 11},
    "3_policy_gradients": {
        "horizon": 3,
        "algorithms": ("reinforce",),
        "seeds": 1,
        "total_timesteps": 512,
        "n_steps": 10,
        "episode_seconds": 0.2,
    },
    "4_metrics": {"runs": ("healthy",), **SMALL},
    "5_history": {"frames_seen": (3,), "seeds": 1, **SMALL},
    "6_randomization_and_actuators": {
        "delays": (0.04,),
        **SMALL,
        "tested": 12,
        "recorded_seconds": 1.0,
        "fit_steps": 20,
    },
    "7_effect_or_variance": {"seeds": 2, **SMALL, "drawn": 3},
    "8_demonstrations": {"lengths": (0.6,), "flights_shown": 2},
    "9_teacher_and_student": {"students": ("with a memory",), **SMALL},
}
"""What the cell tagged "parameters" is replaced with: every name in it, so that none is forgotten."""

TOLD = ("ground_position", "% of 2 episodes", "trained policy:", "ground_velocity_target", "of 1 episodes")
"""What the first policy's notebook must have printed: one thing for each of its parts."""

SOLUTION = re.compile(r"<details><summary>Solution</summary>.*?```python\n(.*?)```", re.DOTALL)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_of_the_course = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


def solve(notebook: nbformat.NotebookNode) -> list[str]:
    """Put each solution in the place of its exercise, the code cell before it; return the exercises' numbers."""
    solved = []
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and (found := SOLUTION.search(cell.source)):
            exercise = notebook.cells[place - 1]
            (number,) = re.findall(r'check\("(.*?)"', exercise.source)
            assert f'check("{number}"' in found[1]
            exercise.source = found[1]
            solved.append(number)
    return solved


def run(path: Path, folder: Path) -> tuple[nbformat.NotebookNode, str]:
    """Run a notebook in miniature, solved; return it and what it printed."""
    from nbclient import NotebookClient

    notebook, small = read(path), MINIATURES[path.stem]
    cell = parameters(notebook)
    assert re.findall(r"^(\w+) = ", cell.source, re.MULTILINE) == list(small)
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in small.items())
    solve(notebook)
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()  # raises with the traceback of a cell that fails
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return notebook, "".join(output.get("text", "") for output in outputs)


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_every_notebook_has_a_miniature():
    assert {path.stem for path in NOTEBOOKS} == set(MINIATURES)


@each_notebook
def test_notebooks_are_committed_with_outputs_and_pictures_and_open_in_a_hosted_service(path):
    notebook = read(path)
    assert [cell.source for cell in code_of(notebook) if not cell.execution_count] == []
    assert all(output.output_type != "error" for cell in code_of(notebook) for output in cell.outputs)
    assert pictures(notebook) and path.stat().st_size < 400_000
    assert "](https://colab.research.google.com/" in notebook.cells[0].source
    if path in COURSE:
        assert code_of(notebook)[0].source == code_of(read(COURSE[0]))[0].source  # what sets up is one cell


def test_every_exercise_is_in_the_notebook_of_its_number_with_a_solution():
    asked = {path.stem[0]: sorted(solve(read(path))) for path in COURSE}
    assert asked == {name: sorted(e for e in EXERCISES if e[0] == name) for name in asked}
    assert set(asked) == {name[0] for name in EXERCISES}


@each_of_the_course
def test_what_is_stored_of_an_open_exercise_is_what_its_check_says(path, capsys):
    for cell in code_of(read(path)):
        if 'check("' in cell.source and "balance(" not in cell.source:  # that one needs robots
            exec(cell.source, {"np": np, "check": check, "table": {}})
            assert capsys.readouterr().out == "".join(output.text for output in cell.outputs)


def test_the_memory_of_the_student_reaches_as_far_back_as_the_notebook_says():
    notebook = read(ROOT / "notebooks" / "9_teacher_and_student.ipynb")
    (source,) = [cell.source for cell in code_of(notebook) if "NETWORKS = " in cell.source]
    networks = ast.literal_eval(source.partition("NETWORKS = ")[2].partition("\nfor ")[0])
    layers = TCNConfig(**networks["with a memory"]["tcn"]).layers
    assert reach(layers) == 7
    assert any("looks at the last seven frames" in cell.source for cell in notebook.cells)


@pytest.mark.slow
@each_of_the_course
def test_the_course_runs_in_miniature_and_its_solutions_are_right(path, tmp_path):
    if path.stem.startswith("1"):
        pytest.importorskip("gymnasium")
    notebook, text = run(path, tmp_path)
    numbers = [number for number in EXERCISES if number[0] == path.stem[0]]
    skipped = {"1.3"}  # needs ten seconds
    assert [n for n in numbers if f"{n}: right" not in text and n not in skipped] == []
    assert pictures(notebook)


@pytest.mark.slow
def test_the_first_policy_runs_in_miniature(tmp_path):
    notebook, text = run(ROOT / "notebooks" / "first_policy.ipynb", tmp_path)
    for told in TOLD:
        assert told in text
    assert pictures(notebook) >= 3  # the falling robot's pitch, the curves, the closed loop; with a renderer, the robot
    assert list(tmp_path.glob("runs/*/first_1/policy/policy.json"))
