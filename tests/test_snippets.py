"""Every snippet of README and docs/ works as it is printed.

Blocks of a page are taken in order, in one folder that holds what pages speak of: a run (`runs`), a bundle (`policy`),
the zoo (`policies`) and a robot of one's own. Python is run, in one namespace for each page; `jaxloco` commands are
run, other programs' are checked; C is compiled and run; TOML is loaded. A block after `<!-- test: parse -->` takes
minutes, or needs a robot, a display, a cluster or the network: its commands are parsed with the real parsers, and of
Python all but the last statement is run, whose arguments must fit. Capital words are placeholders, as in `RUN`.
"""

import argparse
import ast
import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from training_helpers import check_options, tiny, train

from jaxloco import cli, options, registry
from jaxloco.bench import BENCHMARKS
from jaxloco.commands import train as train_command
from jaxloco.registry import Place
from jaxloco.robot import SCHEMA
from jaxloco.tasks import DEFAULT_TASK, recipe
from jaxloco.training import preparation

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"add_your_robot.md"}  # run by tests/test_add_your_robot.py; parsed here
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
SHELLS = ("sh", "shell", "bash", "console")
PLACEHOLDERS = {"RUN": "runs", "RUN/policy": "policy", "policies/NAME": "policies/upkie-balance", "K": "1"}
PROJECT = tomllib.loads((ROOT / "examples" / "package" / "pyproject.toml").read_text())["project"]
EXAMPLE = {
    group: {name: (Place(place, PROJECT["name"]),) for name, place in entries.items()}
    for group, entries in PROJECT["entry-points"].items()
}
"""What the example package registers, as if it were installed."""

BUILDS = ("cc", "./robot")
"""Programs that are run: the compiler, with main.c, which is the C block before, and what it makes."""

MODULES = ("stand", "slide", "careful")
"""Files that pages say to save: the block that holds the name in quotes."""

SHORTER = {"run": ("--seconds", "2")}
"""What a command is given besides, whose episodes take ten seconds of simulation."""

OTHERS = ("scp", "ssh", "apt-get", "jupyter")
"""Programs whose options are not ours to check."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    parse_only: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text[: match.start("code")].count("\n")
        parse = match["mark"] == "test: parse" or page.name in ELSEWHERE
        yield Block(page, line, match["language"], match["code"], parse)


def commands(block: Block) -> list[list[str]]:
    """Return the commands of a shell block, each as its words."""
    text = block.code.replace("\\\n", " ")
    lines = [line.removeprefix("$ ") for line in text.splitlines()]
    separate = [part for line in lines for part in re.split(r" && |; ", line.partition("  #")[0])]
    return [[PLACEHOLDERS.get(word, word) for word in shlex.split(part)] for part in separate if part.strip()]


class Parsed(BaseException):
    """A command's words are understood; it need not run."""


def parse(words: list[str], where: str) -> None:
    """Check a command with the parser that it has."""
    program, *rest = words
    if program == "python" and rest[0] == "train.py":
        program, rest = "jaxloco", ["train", *rest[1:]]
    if program == "python" and rest[0].endswith(".py") and rest[1:2] != ["train"] and (ROOT / rest[0]).exists():
        return
    if program == "jaxloco":
        parse_ours(rest, where)
    elif program == "srun":
        parse(rest[next(i for i, word in enumerate(rest) if not word.startswith("-")) :], where)
    elif program == "pip":
        parse_pip(rest, where)
    elif program == "pytest":
        assert re.fullmatch(r"-n \d+( --dist loadfile| -m (not slow|exhaustive))?|tests/\S+\.py", " ".join(rest)), where
    else:
        assert program in (*OTHERS, ".", "source") or rest[:2] == ["-m", "venv"], f"{where}: {words}"


def parse_ours(words: list[str], where: str) -> None:
    name, *rest = words
    assert name in cli.COMMANDS, where
    if name == "train":
        own, left = train_command._split_run_options(rest)
        task = left.pop(0) if left and not left[0].startswith("-") else DEFAULT_TASK
        if own.resume is None:
            check_options(own, left, task, where)
    elif name == "bench":
        assert not rest or rest[0] == "--page" or rest[0] in BENCHMARKS, where
        if rest and rest[0] != "--page" and rest[0] != "against-sb3":  # which needs PyTorch
            understood(lambda: cli.COMMANDS["bench"](rest), where)
    else:
        understood(lambda: cli.COMMANDS[name](rest), where)


def understood(command: Any, where: str) -> None:
    """Check that a command's words get past its parser."""

    def stop(parser: Any) -> Any:
        def stopped(*arguments: Any, **named: Any) -> Any:
            parser(*arguments, **named)
            raise Parsed

        return stopped

    with (
        mock.patch.object(options, "parse", stop(options.parse)),
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop(argparse.ArgumentParser.parse_args)),
        pytest.raises(Parsed),
    ):
        command()


def parse_pip(words: list[str], where: str) -> None:
    """Check that what pip is told to install is there: a checkout's extras and files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words[1:]:
        extras = re.fullmatch(r"\.\[(.*)\]", word)
        assert not extras or set(extras[1].split(",")) <= set(project["optional-dependencies"]), where
        assert not word.endswith((".txt", ".toml")) or (ROOT / word).exists(), where
        name = word.partition("[")[0]
        assert name != project["name"], f"{where}: {name} is on no index; write pip install ."


def run_all_but_the_last(block: Block, scope: dict[str, Any]) -> None:
    """Run a long block up to its last statement, a call, and check that its arguments fit."""
    *before, last = ast.parse(block.code).body
    exec(compile(ast.Module(before, []), str(block), "exec"), scope)
    assert isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)
    function = eval(compile(ast.Expression(last.value.func), str(block), "eval"), scope)
    names = {word.arg for word in last.value.keywords}
    inspect.signature(function).bind(*last.value.args, **dict.fromkeys(names))


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that took a moment."""
    runs = tmp_path_factory.mktemp("runs")
    train(tiny(), runs / "2026-01-31" / "heron_1")
    return runs


@pytest.fixture
def surroundings(a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the pages speak of, and copies of what their examples register in."""
    shutil.copytree(a_run, tmp_path / "runs")
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    shutil.copytree(ROOT / "policies" / "upkie-balance" / "policy", tmp_path / "policy")
    shutil.copytree(ROOT / "robots" / "upkie", tmp_path / "my_robots" / "walker")
    monkeypatch.setenv("HOME", str(tmp_path))
    for module in MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(registry, "registered", lambda group: EXAMPLE.get(group, {}))
    monkeypatch.syspath_prepend(ROOT / "examples" / "package")
    monkeypatch.setattr(
        "jaxloco.onboard.clients.registry._MAPPINGS",
        [*importlib.import_module("jaxloco.onboard.clients.registry")._MAPPINGS],
    )
    monkeypatch.setattr("brax.envs._envs", dict(importlib.import_module("brax.envs")._envs))
    yield tmp_path
    for module in [name for name in sys.modules if name.partition(".")[0] == "jaxloco_example"]:
        del sys.modules[module]  # other tests say that it is not installed


def train_arms(page: Path, runs: Path) -> None:
    """Train what the page of comparisons compares."""
    for arm in ("before", "after") if "runs/before" in page.read_text() else ():
        train(tiny(seeds=2, eval_episodes=4), runs / arm)


@pytest.mark.slow
@each_page
@pytest.mark.filterwarnings("ignore")  # of the packages that the pages use
def test_the_snippets_of_a_page_work_as_printed(page, surroundings, monkeypatch):
    monkeypatch.syspath_prepend(surroundings)
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    train_arms(page, surroundings / "runs")
    scope: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language == "python":
            if "stable_baselines3" in block.code:
                pytest.importorskip("stable_baselines3")
            if block.parse_only:
                run_all_but_the_last(block, scope)
            else:
                exec(compile(block.code, str(block), "exec"), scope)
            for name in MODULES:
                (surroundings / f"{name}.py").write_text(block.code) if f'"{name}"' in block.code else None
        elif block.language in SHELLS:
            for words in commands(block):
                run_command(words, block)
        elif block.language == "c":
            Path("main.c").write_text(block.code)
        elif block.language == "toml":
            load(block)


def run_command(words: list[str], block: Block) -> None:
    if words[0] in BUILDS:
        subprocess.run(words, check=True)
    elif block.parse_only or words[0] != "jaxloco":
        parse(words, str(block))
    else:
        assert cli.main([*words[1:], *SHORTER.get(words[1], ())]) == 0, f"{block}: {words}"


def load(block: Block) -> None:
    """Check a block of settings, of parts of a robot.toml, or of the example's pyproject.toml."""
    table = tomllib.loads(block.code)
    parts = [(name, part) for name in ("joints", "feet", "objects") for part in table.get(name, ())]
    for name, part in parts:
        assert set(part) <= set(SCHEMA[name].keys), block  # type: ignore[union-attr]
    if "project" in table:
        assert table["project"]["entry-points"] == PROJECT["entry-points"], block
    elif not parts:
        Path("settings.toml").write_text(block.code)
        options.parse(recipe(DEFAULT_TASK), ["--config", "settings.toml"], prog=str(block), description="")


@pytest.mark.slow
def test_the_first_python_of_each_page_passes_the_type_checker(tmp_path):
    firsts = {page.stem: next((b for b in blocks(page) if b.language == "python"), None) for page in PAGES}
    files = {f"{name.lower()}_snippet.py": block.code for name, block in firsts.items() if block is not None}
    assert {"readme_snippet.py", "from_python_snippet.py", "learning_snippet.py"} <= set(files)
    for name, code in files.items():
        Path(name).write_text(code)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        "cache",
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr


@each_page
def test_every_block_is_of_a_kind_that_is_checked(page):
    for block in blocks(page):
        assert block.language in (*SHELLS, "python", "c", "toml", "yaml", ""), str(block)
        plain = block.language == "" and re.search(r"^(\$ )?(python|jaxloco|pip) ", block.code, re.MULTILINE)
        assert not plain, f"{block}: commands; write ```sh"
    for line in re.findall(r"`(pip install [^`]+)`", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        parse_pip(shlex.split(line)[1:], page.name)


def test_what_is_wrong_in_a_snippet_is_found(tmp_path):
    for words in (
        "jaxloco fly",
        "jaxloco train go1-velocity --task.weight 1",
        "python train.py go9-velocity",
        "jaxloco run policy --env A --view",
        "jaxloco evaluate RUN --spped 1",
        "jaxloco bench cots",
        "jaxloco bench cost --n-env 1",
        'pip install ".[tain]"',
        "pip install jaxloco",
        "pip install 'jaxloco[train]'",
        "srun --nodes=2 python train.py --ppo.gama 1",
        "python nowhere.py",
        "cargo run",
    ):
        with pytest.raises((AssertionError, SystemExit, ValueError)), mock.patch("sys.stderr"):
            parse(shlex.split(words), "here")


def test_the_cluster_of_the_page_names_its_hosts_as_kubernetes_does():
    """What an indexed Job's pods are called, and the commands of its container, understood by the real parsers."""
    yaml = pytest.importorskip("yaml")
    (block,) = (block for block in blocks(ROOT / "docs" / "running.md") if block.language == "yaml")
    service, job = yaml.safe_load_all(block.code)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert service["kind"] == "Service" and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}  # the label of a Job's pods
    assert service["metadata"]["name"] == pod["subdomain"] and spec["completionMode"] == "Indexed"
    (container,) = pod["containers"]
    assert container["command"] == ["sh", "-c"] and len(container["args"]) == 1
    words = shlex.split(container["args"][0].replace("$JOB_COMPLETION_INDEX", "1"))
    parse(words, str(block))
    own, _ = train_command._split_run_options(words[2:])
    assert own.coordinator == f"{job['metadata']['name']}-0.{pod['subdomain']}:1234"
    assert own.num_processes == spec["completions"] == spec["parallelism"] and own.process_id == 1
    dockerfile = (ROOT / "Dockerfile").read_text()
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    folder = re.search(r"^WORKDIR (/work)$", dockerfile, re.MULTILINE)
    assert (
        folder and mount == {"name": volume["name"], "mountPath": f"{folder[1]}/runs"} and own.out.startswith("runs/")
    )
    assert words[0] == "jaxloco" and 'ENTRYPOINT ["jaxloco"]' in dockerfile
