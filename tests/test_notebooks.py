"""The notebooks run from the first cell to the last, in miniature, and are committed without outputs."""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MINIATURE = "\n".join(
    (
        "total_timesteps = 4096",
        "n_envs = 16",
        "eval_episodes = 2",
        "video_seconds = 0.1",
        "simulator_episodes = 1",
    )
)
"""What the cell tagged "parameters" is replaced with: every name in it, so that none is forgotten."""


TOLD = ("ground_position", "% of 2 episodes", "trained policy:", "ground_velocity_target", "of 1 episodes")
"""What the notebook must have printed: one thing for each of its parts."""


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def assigned(source: str) -> list[str]:
    return [line.partition(" = ")[0] for line in source.splitlines() if " = " in line]


def parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


def test_there_is_a_notebook():
    assert [path.name for path in NOTEBOOKS] == ["first_policy.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs(path):
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert code
    assert [cell.source for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_in_miniature(path, tmp_path):
    from nbclient import NotebookClient

    notebook = read(path)
    cell = parameters(notebook)
    assert assigned(cell.source) == assigned(MINIATURE)
    cell.source = MINIATURE
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises with the traceback of a cell that fails
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    for told in TOLD:
        assert told in text
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 3  # the falling robot's pitch, the curves, the closed loop; with a renderer, the robot too
    assert list(tmp_path.glob("runs/*/first_1/policy/policy.json"))
