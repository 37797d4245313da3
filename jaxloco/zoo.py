"""The zoo: trained policies in `policies/NAME/`, each with its evaluation and the command that trained it."""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxloco import option_hints, options, whole_files
from jaxloco.errors import ConfigError
from jaxloco.onboard import Policy
from jaxloco.runs import config_from_plain, finished_summary, load_config
from jaxloco.statistics import FEWEST, coverage, describe
from jaxloco.tasks import recorded_recipe
from jaxloco.training.config import plain_config, with_algorithm
from jaxloco.training.metrics import read_metrics
from jaxloco.training.run_folder import RunFolder, read_json, write_json, write_text
from jaxloco.visual.plots import Metrics, plot_curves, plot_seeds

SCHEMA = "jaxloco-zoo/1"
FREE = ("seed", "seeds", "video_seconds")
"""Settings in which the runs of one policy may differ: of seeds trained together, only the first has a video."""

FILES = ("policy", "config.json", "evaluation.json", "curves.png", "README.md")


@dataclass(frozen=True)
class Entry:
    """One published policy.

    Attributes:
        path: Its folder.
    """

    path: Path

    @property
    def policy(self) -> Path:
        """The bundle."""
        return self.path / "policy"

    def check(self) -> dict[str, Any]:
        """Check that everything is there and fits together; return what `evaluation.json` holds.

        Raises:
            ConfigError: A file is missing, or of another version.
            BundleError: The bundle cannot be trusted, or gives other answers here.
        """
        for name in FILES:
            if not (self.path / name).exists():
                raise ConfigError(f"{self.path}: {name} is missing; publish the policy again: jaxloco publish RUN…")
        evaluation: dict[str, Any] = read_json(self.path / "evaluation.json")
        if evaluation.get("schema") != SCHEMA:
            found = evaluation.get("schema")
            raise ConfigError(f"{self.path / 'evaluation.json'}: expected schema {SCHEMA!r}, found {found!r}")
        policy = Policy.load(self.policy)
        policy.verify()
        trained = policy.spec.provenance.get("config", {})
        if trained != read_json(self.path / "config.json"):
            raise ConfigError(f"{self.path / 'config.json'} is not the configuration that the bundle was trained with")
        return evaluation


def publish(runs: Sequence[RunFolder], out: Path) -> Entry:
    """Write the runs of one configuration, which differ in `FREE` alone, as one policy of the zoo.

    Args:
        runs: Finished runs.
        out: The folder to write; an older policy there is replaced once the new one is complete.

    Raises:
        ConfigError: A run is not finished, or the runs differ in more than their seed.
    """
    summaries = [_summary(run) for run in runs]
    configs = [read_json(run.config) for run in runs]
    check_alike(runs, configs)
    if out.exists() and any(out.iterdir()) and not (out / "evaluation.json").is_file():
        raise ConfigError(f"{out} holds something else than a policy of the zoo; choose another folder")
    best = max(range(len(runs)), key=lambda i: _merit(summaries[i]["evaluation"]))
    curves = [read_metrics(run) for run in runs]
    evaluation = _evaluation(summaries, configs, curves, best)
    readme = _readme(out.name, evaluation, configs[best])
    _check_bundle(runs[best], configs[best])
    part = whole_files.temporary(out)
    part.mkdir(parents=True)
    try:
        shutil.copytree(runs[best].policy, part / "policy")
        write_json(part / "config.json", configs[best])
        write_json(part / "evaluation.json", evaluation)
        _plot(curves, part / "curves.png", summaries[best]["task"])
        write_text(part / "README.md", readme)
        whole_files.put_folder(part, out)
    finally:
        whole_files.remove(part)
    return Entry(out)


def _check_bundle(run: RunFolder, config: Mapping[str, Any]) -> None:
    """Check that a run's bundle is of its configuration, before an older policy of the zoo makes room for it.

    Raises:
        ConfigError: It is of another one, such as that before an option changed.
    """
    if Policy.load(run.policy).spec.provenance.get("config", {}) != config:
        raise ConfigError(f"{run.policy} was exported with another configuration; write it anew: jaxloco export {run}")


def _summary(run: RunFolder) -> dict[str, Any]:
    summary = finished_summary(run, load_config(run))
    if "evaluation" not in summary:
        raise ConfigError(f"{run} has not finished with an evaluation; go on with: jaxloco train --resume {run}")
    evaluation, missing = summary["evaluation"], _NAMED - summary.keys()
    figures = options.flat(_figures(summary, {})) if not missing and isinstance(evaluation, dict) else {}
    numbers = all(isinstance(figure, int | float) for figure in figures.values())
    if not numbers or not {"survived", "return_mean"} <= figures.keys():
        raise ConfigError(f"{run.summary} is damaged; write it anew: jaxloco train --resume {run}")
    return summary


_NAMED = {"task", "robot", "physics", "device", "versions", "env_steps", "wall_seconds"}
"""What is published of a summary beside its evaluation."""


def check_alike(runs: Sequence[RunFolder], configs: Sequence[Mapping[str, Any]]) -> None:
    """Check that runs differ in `FREE` alone, and each in its seed.

    Raises:
        ConfigError: They do not.
    """
    first = options.flat(configs[0])
    seeds = [config["seed"] for config in configs]
    for run, config in zip(runs, configs, strict=True):
        other = options.flat(config)
        for key in sorted(first.keys() | other.keys()):
            if key not in FREE and first.get(key) != other.get(key):
                raise ConfigError(
                    f"{run} has {key} = {other.get(key)}, but {runs[0]} has {first.get(key)}: runs that belong "
                    "together may differ in their seed only"
                )
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ConfigError(f"seed {twice[0]} is there twice; train another: --seed {max(seeds) + 1}")


def _merit(evaluation: Mapping[str, Any]) -> tuple[float, float, float]:
    """What makes one seed better than another: not to fall, then to do what is asked, then the return."""
    return evaluation["survived"], evaluation.get("passed", 0.0), evaluation["return_mean"]


def _evaluation(
    summaries: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]], curves: Sequence[Metrics], best: int
) -> dict[str, Any]:
    rows = [options.flat(_figures(*run)) for run in zip(summaries, curves, strict=True)]
    return {
        "schema": SCHEMA,
        "task": summaries[best]["task"],
        "robot": summaries[best]["robot"],
        "seeds": [config["seed"] for config in configs],
        "best_seed": configs[best]["seed"],
        "episodes": summaries[best]["evaluation"].get("episodes"),
        "figures": {
            name: describe([row[name] for row in rows]) for name in rows[best] if all(name in row for row in rows)
        },
        "physics": summaries[best]["physics"],
        "device": f"{summaries[best]['device']}, {platform.machine()}",
        "versions": summaries[best]["versions"],
    }


def _figures(summary: Mapping[str, Any], curves: Metrics) -> dict[str, Any]:
    evaluation = summary["evaluation"]
    keys = ("survived", "passed", "seconds_mean", "return_mean", "passed_by_kind", "reward_raw", "reward_last")
    overlap = evaluation.get("self_overlap")
    return {
        **{key: evaluation[key] for key in keys if key in evaluation},
        **({"self_overlap": {key: overlap[key] for key in ("share", "depth")}} if overlap else {}),
        **{name: float(values[-1]) for name, values in curves.items() if name.startswith("terrain/")},
        "env_steps": summary["env_steps"],
        "wall_seconds": summary["wall_seconds"],
    }


def command(config: Mapping[str, Any], seed: int) -> str:
    """Return the command that trains with a run's configuration: the task, and what differs from its recipe."""
    default = recorded_recipe(config, "config.json")
    words = ["jaxloco train" if default.origin else "python train.py", _task_word(config)]
    if "algorithm" in config:
        default = with_algorithm(default, config["algorithm"])
        words.append(f"--algorithm {config['algorithm']}")
    usual, meant = (
        options.flat(plain_config(default)),
        options.flat(plain_config(config_from_plain(config, "config.json"))),
    )
    words += [_option(key, value) for key, value in meant.items() if key != "seed" and usual.get(key) != value]
    return " ".join([*words, f"--seed {seed}"])


def _task_word(config: Mapping[str, Any]) -> str:
    """Return how a task is named on the command line: by its name, or module:NAME where no package registers it."""
    origin = config.get("origin")
    return str(origin["module"] if origin and not origin["package"] else config["task_name"])


def _option(key: str, value: Any) -> str:
    name = option_hints.option_name(key)
    if isinstance(value, bool):
        before, dot, last = name.removeprefix("--").rpartition(".")
        return name if value else f"--{before}{dot}no-{last}"
    words = value if isinstance(value, list) else ["none" if value is None else value]
    plain = (json.dumps(word, separators=(",", ":")) if isinstance(word, list) else str(word) for word in words)
    return " ".join([name, *plain])


def _plot(runs: Sequence[Metrics], path: Path, task: str) -> None:
    """Draw the seeds and their interquartile mean; of one seed the spread over its episodes, there being no other."""
    if len(runs) == 1:
        plot_curves(runs[0], path, title=f"{task}: one seed")
    else:
        plot_seeds(runs, path, title=f"{task}: {len(runs)} seeds, and their interquartile mean")


def _readme(name: str, evaluation: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    seeds, best = evaluation["seeds"], evaluation["best_seed"]
    one = len(seeds) == 1
    trained = (
        f"one seed, {best}"
        if one
        else f"{len(seeds)} seeds.\nThe bundle in `policy/` is that of seed {best}, the best of them"
    )
    commands = "\n".join(command(config, seed) for seed in seeds)
    versions = ", ".join(f"{package} {version}" for package, version in evaluation["versions"].items())
    return f"""# {name}

`{evaluation["task"]}` for the robot `{evaluation["robot"]}`, trained with {trained}.

```sh
jaxloco run policies/{name} --view
jaxloco run policies/{name} --video {name}.mp4
jaxloco evaluate policies/{name} --cone elliptic --delay 8
```

## Trained with

```sh
{commands}
```

on {evaluation["physics"]} physics, {evaluation["device"]}, with {versions}.

## Evaluation

{evaluation["episodes"]} randomized episodes per seed, without exploration noise, at the end of training.
{_SPREAD[one]}{_INTERVAL.format(coverage(len(seeds))) if len(seeds) >= FEWEST else ""}
`reward_raw` are means over time, `reward_last` those of the last step of each episode.
{_OVERLAP if any(key.startswith("self_overlap") for key in evaluation["figures"]) else ""}\
{_TERRAIN if any(key.startswith("terrain/") for key in evaluation["figures"]) else ""}
{_table(evaluation["figures"], seeds)}

![Learning curves](curves.png)
"""


_OVERLAP = (
    "`self_overlap` is the share of time in which two parts of the robot are more than 2 mm inside each other, and the "
    "largest depth, m.\n"
)

_TERRAIN = "`terrain` are levels of the robots that trained, in the last row of the training's log.\n"

_SPREAD = {
    True: "One seed tells nothing of the spread over seeds.",
    False: "Interquartile mean over the seeds, and each seed's own figure.",
}

_INTERVAL = " The interval is a BCa bootstrap's, which of so many seeds holds the true mean {:.0%} of the time."


def _table(figures: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """Return the figures of each seed and, of several, what they have in common."""
    head, rows = ["figure"], [[f"`{key}`"] for key in figures]
    if len(seeds) > 1:
        intervals = len(seeds) >= FEWEST
        head += ["interquartile mean", *(["interval"] if intervals else [])]
        for row, entry in zip(rows, figures.values(), strict=True):
            found = entry["interval"]
            row += [f"{entry['iqm']:.4g}", *(["{:.4g} … {:.4g}".format(*found) if found else "–"] if intervals else [])]
    head.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    for row, entry in zip(rows, figures.values(), strict=True):
        row.append(", ".join(f"{value:.4g}" for value in entry["values"]))
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
