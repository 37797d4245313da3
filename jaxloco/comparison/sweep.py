"""Trainings of several settings, each with several seeds in one program, one after another, and compared at the end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jaxloco import library, option_hints, options
from jaxloco.comparison import tuner, variations
from jaxloco.comparison.arms import Arm, read_arm
from jaxloco.comparison.comparable import check_comparable
from jaxloco.comparison.compare import Comparison, check_limits, compare, terms_of
from jaxloco.comparison.metric import Metric, early_metric, find_metric, values_of
from jaxloco.comparison.plan import Plan
from jaxloco.comparison.report import as_json, write_figure
from jaxloco.comparison.variations import Settings, Variation
from jaxloco.envs.interface import Environment
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.runs import check_sources, config_from_plain, load_start, load_teacher
from jaxloco.statistics import interquartile_mean
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.progress import make_progress
from jaxloco.training.run_folder import RunFolder, read_json, write_json
from jaxloco.training.trainer import build_agent, build_environment

SCHEMA = "jaxloco-sweep/1"
SEEDS = 5
"""Of each setting, if nothing else is said."""


@dataclass(eq=False)
class Sweep:
    """A sweep and its folder.

    Attributes:
        folder: Where the runs go, one folder for each setting.
        base: The configuration that is varied.
        plan: What is done.
        tried: The settings so far.
    """

    folder: Path
    base: TrainConfig
    plan: Plan
    tried: list[Settings]

    @classmethod
    def begin(cls, folder: Path | None, base: TrainConfig, plan: Plan) -> "Sweep":
        """Check a sweep, and write it down.

        Args:
            folder: Where its runs go; runs/<date>/sweep_<n> if None.
            base: The configuration that is varied.
            plan: What is done.

        Raises:
            ConfigError: A setting does not exist or takes no such value, or the runs could not be compared.
        """
        cls(Path(), base, plan, []).check()
        folder = folder or RunFolder.create(name="sweep").path
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; choose another folder, or go on with --resume {folder}")
        sweep = cls(folder, base, plan, [])
        sweep.write()
        return sweep

    @classmethod
    def open(cls, folder: Path) -> "Sweep":
        """Open a sweep that was begun.

        Raises:
            ConfigError: There is none.
        """
        if not (folder / "sweep.json").is_file():
            raise ConfigError(f"{folder} holds no sweep (it has no sweep.json); begin one: jaxloco sweep TASK --vary …")
        data = read_json(folder / "sweep.json")
        if data.get("schema") != SCHEMA:
            raise ConfigError(f"{folder / 'sweep.json'}: expected schema {SCHEMA!r}, found {data.get('schema')!r}")
        source, tried = str(folder / "sweep.json"), data.get("tried")
        if not isinstance(data.get("config"), dict) or not isinstance(tried, list):
            raise ConfigError(f"{source} is damaged: expected a table config and a list tried; begin another sweep")
        if wrong := [settings for settings in tried if not isinstance(settings, dict)]:
            raise ConfigError(f"{source}: tried holds {wrong[0]!r}, expected tables of settings")
        plan = options.from_dict(Plan, data.get("plan", {}), source=source)
        return cls(folder, config_from_plain(data["config"], source), plan, tried)

    @property
    def variations(self) -> list[Variation]:
        """What varies."""
        return [variations.parse(text) for text in self.plan.vary]

    @property
    def file(self) -> Path:
        """`sweep.json`: what is done, and the settings so far."""
        return self.folder / "sweep.json"

    def write(self) -> None:
        """Write `sweep.json`."""
        plan = options.to_dict(self.plan)
        write_json(self.file, {"schema": SCHEMA, "plan": plan, "config": plain_config(self.base), "tried": self.tried})

    def check(self) -> None:
        """Raise ConfigError if a setting cannot be, or its runs could not be compared with the first ones."""
        varied, plan = self.variations, self.plan
        variations.check_keys(varied)
        if self.base.seeds < 2:
            raise ConfigError(
                f"--seeds {self.base.seeds}: one seed tells no effect from variance; write --seeds {SEEDS}"
            )
        if plan.tuner != "none" and not plan.draws:
            raise ConfigError(f"--tuner {plan.tuner}: say how many settings it may try, with --draws 10")
        self._check_draws(varied)
        ends = [{v.key: v.high if isinstance(v, variations.Span) else v.values[-1] for v in varied}]
        settings = list(islice(variations.draws(varied, 0), 20)) + ends if plan.draws else variations.grid(varied)
        if not plan.draws and len(settings) < 2:
            raise ConfigError(
                "--vary: one setting alone; write two values or more, such as ppo.learning_rate=1e-3,2e-3"
            )
        arms = [_arm_of(variations.name_of(each), variations.applied(self.base, each)) for each in settings]
        metric = self._metric()
        for arm in arms[1:]:
            check_comparable(arms[0], arm, metric, evaluated=bool(plan.evaluate))
        _check_trainings([arm.config for arm in arms], settings)
        if plan.tuner == "optuna":
            tuner.propose(varied, [], lower_is_better=False, seed=0)

    def _metric(self) -> Metric:
        """Return what is compared; raise ConfigError if that could not be at the end."""
        plan = self.plan
        metric = early_metric(plan.metric, terms_of(self.base))
        check_limits(metric, plan.margin, None, plan.evaluate)
        if not (metric.of_training or plan.evaluate or self.base.eval_episodes):
            raise ConfigError(
                f"--eval-episodes 0 --metric {plan.metric}: nothing is evaluated that could be compared; write another "
                "number, or compare what the training itself shows: --metric env_steps_to=X"
            )
        return metric

    def _check_draws(self, varied: Sequence[Variation]) -> None:
        """Raise ConfigError if there are fewer settings than are to be drawn."""
        draws = self.plan.draws
        found = 0 if self.plan.tuner == "optuna" else len(list(islice(variations.draws(varied, self.base.seed), draws)))
        if 0 < found < draws:
            raise ConfigError(f"--draws {draws}: there are {found} different settings; write --draws {found} at most")

    def settings(self) -> Iterator[Settings]:
        """Yield the settings to train, those so far first; each is written down before it is trained."""
        yield from list(self.tried)
        drawn, proposed = self.plan.draws, self.plan.tuner == "optuna"
        every = islice(variations.draws(self.variations, self.base.seed), drawn)
        planned = [] if proposed else list(every) if drawn else variations.grid(self.variations)
        for index in range(len(self.tried), drawn if proposed else len(planned)):
            self.tried.append(self._proposed() if proposed else planned[index])
            self.write()
            yield self.tried[-1]

    def _proposed(self) -> Settings:
        arms = [self.arm(index) for index in range(len(self.tried))]
        known = [
            (arm, each) for arm, each in zip(arms, self.tried, strict=True) if any(not s.failed for s in arm.seeds)
        ]
        metric = find_metric(self.plan.metric, [arm for arm, _ in known]) if known else early_metric(self.plan.metric)
        values = values_of(metric, [arm for arm, _ in known])[0] if known else []
        reached = [(each, float(interquartile_mean(own))) for (_, each), own in zip(known, values, strict=True)]
        lower = metric.lower_is_better
        return tuner.propose(self.variations, reached, lower_is_better=lower, seed=self.base.seed)

    def run_folder(self, index: int) -> RunFolder:
        """Return the folder of the runs of one setting."""
        begun = sorted(self.folder.glob(f"{index:02d}_*/"))  # other versions of jaxloco may have named it otherwise
        name = f"{index:02d}_{variations.name_of(self.tried[index]).replace(' ', '_')}"
        return RunFolder(begun[0] if begun else self.folder / name)

    def arm(self, index: int) -> Arm:
        """Return the finished runs of one setting.

        Raises:
            ConfigError: They are not finished.
        """
        return read_arm(variations.name_of(self.tried[index]), [self.run_folder(index).path])

    def run(self, *, quiet: bool = False, report: Callable[[str], None] = print) -> Comparison | None:
        """Train what is not trained yet, compare, and write `comparison.json` and `comparison.png`.

        Returns:
            The comparison; None if a training was interrupted.

        Raises:
            JaxlocoError: A training failed but for learning that diverged, which counts.
        """
        for index, settings in enumerate(self.settings()):
            if not self._is_finished(index):
                report(f"setting {index + 1}: {variations.name_of(settings)}")
                if not self._train(index, quiet):
                    return None
        arms = [self.arm(index) for index in range(len(self.tried))]
        plan = self.plan
        found = compare(arms, plan.metric, margin=plan.margin, evaluate=plan.evaluate, report=report)
        write_json(self.folder / "comparison.json", as_json(found))
        write_figure(found, self.folder / "comparison.png")
        return found

    def _is_finished(self, index: int) -> bool:
        folder = self.run_folder(index)
        try:
            return folder.config.exists() and bool(self.arm(index))
        except ConfigError:
            return False

    def _train(self, index: int, quiet: bool) -> bool:
        """Train one setting; return False if it was interrupted."""
        folder = self.run_folder(index)
        config = variations.applied(self.base, self.tried[index])
        begun = folder.config.exists()
        folder = folder if begun else RunFolder.at(folder.path)
        try:
            with Interrupt(owned=True) as stop, make_progress(quiet=quiet) as progress:
                stop.at_end.append(progress.close)
                library.run_training(library.located(config), folder, progress, resume=begun, stop=stop)
        except JaxlocoError:
            if not self._is_finished(index):  # else learning diverged in every seed
                raise
            return True
        return not read_json(folder.summary).get("interrupted", False)


def _check_trainings(configs: Sequence[TrainConfig], settings: Sequence[Settings]) -> None:
    """Raise ConfigError if one of some trainings could not begin; names its settings."""
    environments: dict[str, Environment] = {}
    for config, own in zip(configs, settings, strict=True):
        key = repr((config.task, config.physics, config.algorithm.teacher_run))
        try:
            check_sources(config)
            if config.algorithm.run is not None:
                config.spec()
                continue
            taught, start = load_teacher(config), load_start(config)
            if key not in environments:
                environments[key] = build_environment(config, taught)
            build_agent(environments[key], config, taught, start)
        except JaxlocoError as error:
            raise type(error)(f"--vary {variations.name_of(own)}: {error}") from error


def _arm_of(name: str, config: TrainConfig) -> Arm:
    """Return an arm that is not trained yet."""
    return Arm(name, config, options.flat(plain_config(config)), [])


def confirmation(sweep: Sweep, found: Comparison) -> str:
    """Return what tells whether the best of many settings is as good as it looks; nothing of two settings."""
    if len(found.arms) < 3:
        return ""
    middles: Sequence[float] = [own["iqm"] for own in found.described]
    best = (min if found.metric.lower_is_better else max)(range(len(middles)), key=middles.__getitem__)
    if best == 0:
        return ""
    pair = [_words(sweep.tried[0]), _words(sweep.tried[best])]
    seed = sweep.base.seed + sweep.base.seeds
    return (
        f"{found.arms[best].name} has the best interquartile mean of {len(middles)}, and the best of many looks better "
        f"than it is: train it ({pair[1]}) and the first ({pair[0]}) anew with --seeds 10 --seed {seed}, and compare"
    )


def _words(settings: Settings) -> str:
    return " ".join(f"{option_hints.option_name(key)} {value}" for key, value in settings.items())
