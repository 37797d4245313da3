"""What README and docs/ say is true: links resolve, commands and figures exist, the example task works."""

import io
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from training_helpers import check_options, run

from jaxloco import cli
from jaxloco.cli import COMMANDS
from jaxloco.commands import train as train_command
from jaxloco.tasks import DEFAULT_TASK, TASKS, recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    *sorted([*(ROOT / "policies").glob("*/README.md"), *(ROOT / "robots").glob("*/SOURCE.md")]),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    """The text of a page; of a notebook that of its Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, spaces to dashes, punctuation dropped."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    broken = []
    for match in LINK.finditer(FENCE.sub("", text_of(page))):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("https:", "http:", "mailto:")):
            continue
        file = page if not target else page.parent / target
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(match["target"])
    assert broken == []


def test_every_page_is_in_the_index():
    index = text_of(ROOT / "docs" / "index.md")
    assert [page.name for page in PAGES[2:] if page.name != "index.md" and f"]({page.name})" not in index] == []


@each_page
def test_commands_exist(page):
    """`jaxloco WORD` in code is a command of the command line."""
    text = text_of(page)
    code = "\n".join(FENCE.findall(text) + re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))
    named = re.findall(r"(?:^|\$ |`)jaxloco ([a-z-]+)\b", code, re.MULTILINE)
    assert set(named) - set(COMMANDS) == set()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Dockerfile"], ids=lambda page: page.name)
def test_lines_that_train_are_understood(page, monkeypatch, tmp_path):
    """Every `train.py TASK …` and `jaxloco train TASK …` in a block of code has options that exist."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    text = text_of(page)
    code = text if page.suffix != ".md" else "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    lines = re.findall(r"(?:train\.py|jaxloco train) +((?:[a-z0-9-]+-[a-z-]+|--)[^#`\n—&|]*)", code)
    for line in lines:
        filled = ["1" if word.isupper() else word for word in shlex.split(line)]  # K, RUN
        own, words = train_command._split_run_options(filled)
        task = words.pop(0) if words and not words[0].startswith("-") else None
        if own.resume or task not in (None, *TASKS) or not {"--help", "--config"}.isdisjoint(words):
            continue
        check_options(own, words, task or DEFAULT_TASK, f"{page.name}: {line}")


def test_readme_names_every_command_and_task():
    readme = text_of(ROOT / "README.md")
    assert [name for name in COMMANDS if f"`jaxloco {name}" not in readme] == []
    assert [name for name in TASKS if f"`{name}`" not in readme] == []


def test_every_standard_quantity_is_in_the_table_with_its_unit_frame_and_whether_it_is_measurable():
    from jaxloco.envs.quantities import standard_quantities
    from jaxloco.robot import load_robot

    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|", text_of(ROOT / "docs/environments.md"), re.M
    )
    table = {name: (unit.strip(), frame.strip(), measurable.strip()) for name, _, unit, frame, measurable in rows}
    known = standard_quantities(load_robot("upkie"))
    wanted = {q.name: (q.unit, q.frame, "yes" if q.measurable else "no") for q in known}
    assert {name: table.get(name) for name in wanted} == wanted


def test_stated_tolerances_are_those_of_the_parity_test():
    source = text_of(ROOT / "tests" / "test_physics.py")
    tolerance = re.search(r'TOLERANCE = \{"qpos": (\S+), "qvel": (\S+)\}', source)
    assert tolerance is not None
    assert f"| 0.1 s | {tolerance[1]} | {tolerance[2]} |" in text_of(ROOT / "docs" / "physics.md")


def run_example(page: str, name: str) -> dict[str, Any]:
    """Run a page's example as a module; returns what it defines."""
    example = re.search(
        rf"<!-- test: {name} -->\n```python\n(?P<code>.*?)```", text_of(ROOT / "docs" / page), re.DOTALL
    )
    assert example is not None
    scope = {"__name__": name}
    exec(example["code"], scope)
    return scope


def test_the_example_task_works():
    import jax

    from jaxloco.envs.env import Env

    recipe = run_example("environments.md", "task")["RECIPE"]
    env = Env(recipe.task.spec(), "native")
    state = jax.eval_shape(
        lambda key: env.step(env.reset(key), jax.numpy.zeros(env.action_size)), jax.random.PRNGKey(0)
    )
    assert state.observation["actor"].shape == (5,)
    assert recipe.task.name == "stand"


SHORT = ("--video-seconds", "0", "--eval-episodes", "20")  # as many as the page tells of


@pytest.mark.slow
def test_the_example_task_stands(tmp_path):
    """As the page trains it: it neither falls nor leaves, and stays within a step or two of where it began."""
    page = text_of(ROOT / "docs" / "environments.md")
    example = re.search(r"<!-- test: task -->\n```python\n(.*?)```", page, re.DOTALL)
    line = re.search(r"^\$ jaxloco (train stand:.*)$", page, re.MULTILINE)
    assert example and line
    (tmp_path / "stand.py").write_text(example[1])
    result = run(*line[1].split()[1:], *SHORT, "--quiet", "--out", "run", optimized=True)
    assert result.returncode == 0, result.stderr
    evaluation = json.loads((tmp_path / "run" / "summary.json").read_text())["evaluation"]
    assert evaluation["survived"] > 0.9 and evaluation["rms"]["ground_position"] < 1.5  # before: 0 and 9 m


@pytest.fixture
def own_environment(monkeypatch) -> dict[str, Any]:
    """The example of an environment of one's own, registered for this test."""
    envs = pytest.importorskip("brax.envs")
    monkeypatch.setattr(envs, "_envs", dict(envs._envs))
    return run_example("interop.md", "own")


def test_the_example_of_an_environment_of_one_s_own_works(own_environment):
    import jax

    env = recipe("brax:slide").task.spec().build()
    state = env.reset(jax.random.PRNGKey(0))
    position, velocity = (float(x) for x in state.observation["actor"])
    state = env.step(state, jax.numpy.ones(1))
    velocity += 0.05
    position += 0.05 * velocity
    assert state.observation["actor"].tolist() == pytest.approx([position, velocity])
    assert float(state.reward) == pytest.approx(math.exp(-(position**2))) and not bool(state.terminated)
    assert env.reward_weights == {"total": 1.0, "position": 1.0}


@pytest.mark.slow
def test_an_environment_of_one_s_own_is_trained_and_evaluated_by_its_recipe(
    own_environment, tmp_path, monkeypatch, capsys
):
    import jax

    example = re.search(r"<!-- test: own -->\n```python\n(.*?)```", text_of(ROOT / "docs" / "interop.md"), re.DOTALL)
    assert example
    (tmp_path / "slide.py").write_text(example[1])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slide", raising=False)
    precision = jax.config.jax_default_matmul_precision
    short = "--n-envs 8 --total-timesteps 256 --ppo.n-minibatches 2 --eval-episodes 2 --quiet"
    try:
        assert cli.main(["train", "slide:RECIPE", "--task.episode-steps", "20", *short.split()]) == 0
        assert cli.main(["evaluate", "runs", "--episodes", "4", "--json"]) == 0
    finally:
        jax.config.update("jax_default_matmul_precision", precision)
    assert json.loads(capsys.readouterr().out)["episodes"] == 4


@pytest.mark.parametrize(
    ("mark", "last"), [("ci:test", "pytest -n 2 --dist loadfile"), ("test: parse", "python train.py")]
)
def test_readme_sets_up_and_tests_or_trains_with_one_line(mark, last):
    readme = text_of(ROOT / "README.md")
    block = readme.partition(f"<!-- {mark} -->\n```bash\n")[2].partition("```")[0]
    (line,) = block.splitlines()
    assert line.split(" && ")[-1] == last  # all tests, not only the quick ones
    assert ".venv" in line


def test_pictures_of_the_readme_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").glob("*")}
    assert all(size < 500_000 for size in sizes.values()), json.dumps(sizes)


def test_the_gallery_of_the_readme_shows_tasks_is_small_and_names_what_each_policy_is():
    pictures = sorted((ROOT / "docs" / "gallery").glob("*.gif"))
    assert sum(path.stat().st_size for path in pictures) <= 3_000_000
    readme, captions = text_of(ROOT / "README.md"), json.loads(text_of(ROOT / "docs" / "gallery" / "captions.json"))
    shown = re.findall(r"!\[[\w-]+\]\(docs/gallery/([\w-]+)\.gif\)<br>`([\w-]+)`, ([^|]*) \|", readme)
    assert shown == [(task, task, captions[task]) for task in TASKS if task in captions]
    assert sorted(captions) == [path.stem for path in pictures]
    assert {task for task in TASKS if (ROOT / "policies" / task).is_dir()} <= captions.keys()
