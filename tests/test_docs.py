"""What README and docs/ say is true: links resolve, commands and figures exist, the example task works."""

import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from jaxloco import cli, options
from jaxloco.cli import COMMANDS
from jaxloco.tasks import DEFAULT_TASK, TASKS, recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, spaces to dashes, punctuation dropped."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
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
        own, words = cli._split_run_options(filled)
        task = words.pop(0) if words and not words[0].startswith("-") else None
        if own.resume or task not in (None, *TASKS) or not {"--help", "--config"}.isdisjoint(words):
            continue
        options.parse(recipe(task or DEFAULT_TASK), words, prog=f"{page.name}: {line}", description="")


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


def test_the_example_task_works(monkeypatch):
    import jax

    from jaxloco.envs.env import Env

    page = text_of(ROOT / "docs" / "environments.md")
    example = re.search(r"<!-- test: task -->\n```python\n(?P<code>.*?)```", page, re.DOTALL)
    assert example is not None
    monkeypatch.setattr("jaxloco.tasks.TASKS", dict(TASKS))
    scope = {"__name__": "stand"}
    exec(example["code"], scope)
    recipe = scope["RECIPE"]
    env = Env(recipe.task.spec(), "native")
    state = jax.eval_shape(
        lambda key: env.step(env.reset(key), jax.numpy.zeros(env.action_size)), jax.random.PRNGKey(0)
    )
    assert state.observation["actor"].shape == (5,)
    assert recipe.task.name == "stand"


def test_readme_sets_up_and_tests_with_one_block():
    readme = text_of(ROOT / "README.md")
    block = readme.partition("<!-- ci:test -->\n```bash\n")[2].partition("```")[0]
    assert block.splitlines()[-1] == "pytest -n 2"  # all tests, not only the quick ones
    assert ".venv" in block


def test_pictures_of_the_readme_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").glob("*")}
    assert all(size < 500_000 for size in sizes.values()), json.dumps(sizes)
