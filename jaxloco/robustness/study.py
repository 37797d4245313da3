"""A study of one bundle: parameters singly and in pairs, and their ranking."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

import jaxloco
from jaxloco.envs.env import Env, EnvSpec
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.playback.scenario import with_command
from jaxloco.robustness.parameters import NAMES, Parameter, graded_by_survival, nominal, parameters_of
from jaxloco.robustness.plan import SINGLE, Plan
from jaxloco.robustness.play import TOLERANCE, Axis, Measure, Player, Request, measure_of, swept_spec
from jaxloco.statistics import wilson

SCHEMA = "jaxloco-robustness/1"

ENOUGH = 0.95
"""Share of episodes survived that counts as robust in the summary."""

RESAMPLES = 999
"""Of the bootstrap of Sobol indices."""

OUTCOMES = ("survived", "measure")
"""What indices are of: the share of episodes survived at a point, and the mean of the measure."""

Tell = Callable[[str], None]


@dataclass(eq=False)
class Study:
    """A bundle, what is varied, and the players of it.

    Attributes:
        folder: The bundle.
        plan: What is done.
        playback: The bundle, checked, and its task.
        spec: The task, as it is where nothing is varied.
        axes: What is varied, and after it what is held.
        chosen: Names of what is varied.
        left_out: Parameters that this robot or task does not have, with the reason.
        measure: What an episode is judged by beside survival.
        tell: Takes lines for people.
    """

    folder: Path
    plan: Plan
    playback: Playback
    spec: EnvSpec
    axes: list[Axis]
    chosen: tuple[str, ...]
    left_out: dict[str, str]
    measure: Measure
    tell: Tell

    def __post_init__(self) -> None:
        self._players: dict[bool, Player] = {}
        self._pairs = self.plan.chosen_pairs(self.chosen)
        for name in {name for pair in self._pairs for name in pair}:
            if name not in self.chosen:
                raise unknown_name("parameter in pairs", name, self.chosen)

    @classmethod
    def of(cls, folder: Path, plan: Plan, tell: Tell = lambda text: None) -> "Study":
        """Load a bundle and check what is to be done with it, before anything is played.

        Raises:
            BundleError: The bundle cannot be trusted, or cannot be played here.
            ConfigError: Something in the plan does not fit this robot or task.
        """
        named = {name: getattr(plan, name) for name in ("robot", "robot_variant", "command", "seconds")}
        conditions = Conditions(**named)
        playback = Playback.load(folder, conditions)
        robot, spec = playback.robot, playback.spec
        if plan.command is not None:
            spec = with_command(spec, plan.command, robot)
        spec = replace(spec, variant=plan.robot_variant or spec.variant)
        spec = replace(spec, episode_seconds=plan.seconds or spec.episode_seconds)
        found, left_out = parameters_of(spec, robot)
        chosen = _chosen(plan, found, left_out)
        held = [name for name in found if name not in chosen and _is_held(name, spec, plan)]
        axes = [_axis(found[name], plan) for name in (*chosen, *held)]
        measure = measure_of(spec, robot, plan.error)
        base = graded_by_survival(spec) if plan.randomize else nominal(spec)
        return cls(folder, plan, playback, base, axes, chosen, left_out, measure, tell)

    # Playing

    def run(self) -> dict[str, Any]:
        """Play everything, and return the figures as plain JSON values."""
        begun, processor = time.monotonic(), time.process_time()
        grids = self._grids()
        held, *others = (self._summary(played) for played in self._play([grid.request for grid in grids]))
        varied = list(zip(grids[1:], others, strict=True))
        single = {grid.x: grid.described(summary) for grid, summary in varied if not grid.y}
        pairs = [grid.described(summary) for grid, summary in varied if grid.y]
        for name, found in single.items():
            found["robust"] = robust_range(found["values"], found["survived"], self._axis(name).held)
        sobol = self._sobol() if self.plan.samples else None
        return {
            "schema": SCHEMA,
            **self._facts(),
            "held": {key: value[0] for key, value in held.items()},
            "single": single,
            "pairs": pairs,
            "sobol": sobol,
            "ranking": _ranking(sobol, self.chosen),
            **self._effort(),
            "wall_seconds": time.monotonic() - begun,
            "cpu_seconds": time.process_time() - processor,
        }

    def _facts(self) -> dict[str, Any]:
        """Return what was played."""
        plan, measure = self.plan, self.measure
        return {
            "bundle": str(self.folder),
            "task": self.playback.policy.spec.task,
            "robot": self.playback.robot.name,
            "versions": {"jaxloco": jaxloco.__version__, "mujoco": mujoco.__version__},
            "measure": {"name": measure.name, "unit": measure.unit, "more_is_better": measure.is_reward},
            "episodes": plan.episodes,
            "single_episodes": plan.episodes * SINGLE,
            "seconds": self.spec.episode_seconds,
            "seed": plan.seed,
            "randomize": plan.randomize,
            "command": plan.command,
            "parameters": {axis.parameter.name: _described(axis) for axis in self.axes},
            "varied": self.chosen,
            "left_out": self.left_out,
        }

    def _effort(self) -> dict[str, Any]:
        """Return how much was played, by which engine, and how far it was from the onboard runtime."""
        players = list(self._players.values())
        compared = [found for player in players for found in player.agreements]
        return {
            "engine": players[0].env.engine,
            "env_steps": sum(player.env_steps for player in players),
            "agreement": {
                "largest": max(found.largest for found in compared),
                "steps": sum(found.steps for found in compared),
                "episodes": len(compared),
                "tolerance": TOLERANCE,
            },
        }

    def _grids(self) -> list["Grid"]:
        """Return all grids: the point where nothing is varied, each parameter alone, and the pairs."""
        often = self.plan.episodes * SINGLE
        grids = [Grid(Request(self._points(1), often))]
        for name in self.chosen:
            values = self._axis(name).values
            grids.append(Grid(Request(self._points(len(values), **{name: values}), often), name, "", values))
        for x, y in self._pairs:
            along_x, along_y = self._axis(x).values, self._axis(y).values
            grid_y, grid_x = np.meshgrid(along_y, along_x, indexing="ij")
            points = self._points(grid_x.size, **{x: grid_x.ravel(), y: grid_y.ravel()})
            grids.append(Grid(Request(points, self.plan.episodes), x, y, along_x, along_y))
        return grids

    def _points(self, count: int, **values: np.ndarray) -> np.ndarray:
        """Return points, (count, P): some parameters at given values, (count,), the others where they are held."""
        points = np.tile([axis.held for axis in self.axes], (count, 1)).astype(float)
        for name, column in values.items():
            points[:, self._place(name)] = column
        return points

    def _place(self, name: str) -> int:
        return [axis.parameter.name for axis in self.axes].index(name)

    def _axis(self, name: str) -> Axis:
        return self.axes[self._place(name)]

    def _play(self, requests: Sequence[Request]) -> list[dict[str, np.ndarray]]:
        """Play requests, on terrain those that need it."""
        needs = [self._needs_terrain(request) for request in requests]
        played: dict[int, dict[str, np.ndarray]] = {}
        for on_terrain in sorted(set(needs)):
            places = [i for i, need in enumerate(needs) if need == on_terrain]
            found = self._player(on_terrain).play([requests[i] for i in places], self._progress)
            played |= dict(zip(places, found, strict=True))
        return [played[i] for i in range(len(requests))]

    def _needs_terrain(self, request: Request) -> bool:
        if self.spec.terrain.kinds or "terrain" not in self.chosen:
            return bool(self.spec.terrain.kinds)
        return bool(request.points[:, self._place("terrain")].any())

    def _player(self, on_terrain: bool) -> Player:
        if on_terrain not in self._players:
            policy, plan = self.playback.policy, self.plan
            spec = swept_spec(self.spec, policy.spec, self.axes, self.measure, on_terrain=on_terrain)
            most = plan.episodes * SINGLE
            self._players[on_terrain] = Player(policy, Env(spec, "auto"), self.axes, self.measure, plan.seed, most)
        return self._players[on_terrain]

    def _progress(self, done: int, total: int) -> None:
        self.tell(f"{done} of {total} episodes")

    def _summary(self, played: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the episodes at each point have in common, one entry for each point."""
        survived, measure = played["survived"], played["measure"]
        count = survived.shape[1]
        spread = measure.std(axis=1, ddof=1) if count > 1 else np.full(len(measure), np.nan)
        return {
            "survived": survived.mean(axis=1),
            "interval": np.stack(wilson(survived.sum(axis=1), count), axis=1),
            "seconds": played["seconds"].mean(axis=1),
            "measure": measure.mean(axis=1),
            "standard_error": spread / np.sqrt(count),
        }

    def _sobol(self) -> dict[str, Any]:
        """Rank what is varied, each uniform over its axis."""
        axes = [self._axis(name) for name in self.chosen]

        def outcome(x: np.ndarray) -> np.ndarray:
            points = self._points(x.shape[1], **dict(zip(self.chosen, x, strict=True)))
            (played,) = self._play([Request(points, self.plan.episodes)])
            return np.stack([played[name].mean(axis=1) for name in OUTCOMES])

        found = sobol(outcome, [(axis.low, axis.high) for axis in axes], self.plan.samples, self.plan.seed)
        named = [dict(zip(self.chosen, indices, strict=True)) for indices in found]
        points = self.plan.samples * (len(axes) + 2)
        return {"samples": self.plan.samples, "points": points, **dict(zip(OUTCOMES, named, strict=True))}


@dataclass(frozen=True, eq=False)
class Grid:
    """Points in a row or in a rectangle, whose rows belong to y and columns to x.

    Attributes:
        request: The points.
        x: Parameter along x; "" where nothing is varied.
        y: Parameter along y; "" where one is varied alone.
        x_values: Its values.
        y_values: Its values.
    """

    request: Request
    x: str = ""
    y: str = ""
    x_values: np.ndarray = field(default_factory=lambda: np.zeros(1))
    y_values: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def described(self, summary: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return values and what `Study._summary` says of the points, in the shape of the grid."""
        if not self.y:
            return {"values": self.x_values, **summary}
        shape = (len(self.y_values), len(self.x_values))
        shaped = {key: value.reshape(*shape, *value.shape[1:]) for key, value in summary.items()}
        return {"x": self.x, "y": self.y, "x_values": self.x_values, "y_values": self.y_values, **shaped}


def sobol(
    function: Callable[[np.ndarray], np.ndarray], spans: Sequence[tuple[float, float]], samples: int, seed: int
) -> list[list[dict[str, Any]]]:
    """Return Sobol indices of a function of uniform parameters, with bootstrap intervals.

    Args:
        function: (P, n) → (S, n).
        spans: Ends of each parameter's range.
        samples: Base samples, a power of 2; the function is computed at (P + 2) times as many points.
        seed: Of the samples.

    Returns:
        For each of the S results, and each parameter: "first" and "total" index, and a 95 % interval of each.

    Source: Saltelli et al. 2010, by `scipy.stats.sobol_indices`.
    """
    from scipy import stats

    dists = [stats.uniform(low, high - low) for low, high in spans]
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # where a result never changes, all indices are 0
        warnings.simplefilter("ignore")
        found = stats.sobol_indices(func=function, n=samples, dists=dists, rng=np.random.default_rng(seed))
        with _numpy_seeded(seed):
            spread = found.bootstrap(confidence_level=0.95, n_resamples=RESAMPLES)
    orders = {"first": (found.first_order, spread.first_order), "total": (found.total_order, spread.total_order)}

    def rows(values: Any) -> np.ndarray:
        return np.reshape(values, (-1, len(spans)))  # scipy leaves out an axis of length 1

    results: list[list[dict[str, Any]]] = [[{} for _ in spans] for _ in rows(found.first_order)]
    for name, (values, intervals) in orders.items():
        low, high = map(rows, intervals.confidence_interval)
        for (s, i), value in np.ndenumerate(rows(values)):
            results[s][i] |= {name: float(value), f"{name}_interval": [float(low[s, i]), float(high[s, i])]}
    return results


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator for a while: scipy's bootstrap of Sobol indices takes no other."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def robust_range(values: np.ndarray, survived: np.ndarray, held: float) -> tuple[float, float] | None:
    """Return from where to where around `held` at least 95 % of episodes are survived; None where it is not so there.

    >>> robust_range(np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 0.97, 0.5, 1.0]), 0.6)
    (0.0, 1.0)
    """
    start = int(np.argmin(np.abs(values - held)))
    if survived[start] < ENOUGH:
        return None
    low, high = start, start
    while low > 0 and survived[low - 1] >= ENOUGH:
        low -= 1
    while high < len(values) - 1 and survived[high + 1] >= ENOUGH:
        high += 1
    return float(values[low]), float(values[high])


def _chosen(plan: Plan, found: dict[str, Parameter], left_out: dict[str, str]) -> tuple[str, ...]:
    """Return the names of what is varied."""
    for name in (*plan.parameters, *plan.spans()):
        if name not in NAMES:
            raise unknown_name("parameter", name, NAMES)
        if name in left_out:
            raise ConfigError(f"{name} cannot be varied: {left_out[name]}; choose among {', '.join(found)}")
    chosen = plan.parameters or tuple(found)
    for name in plan.spans():
        if name not in chosen:
            raise ConfigError(f"ranges: {name!r} is not varied; add it to --parameters, or leave its range out")
    if not chosen:
        raise ConfigError("nothing of this robot can be varied: " + "; ".join(left_out.values()))
    return chosen


def _is_held(name: str, spec: EnvSpec, plan: Plan) -> bool:
    """Return whether a parameter that is not varied is held; others are drawn as in training, or not there."""
    return bool(spec.terrain.kinds) if name == "terrain" else not plan.randomize


def _axis(parameter: Parameter, plan: Plan) -> Axis:
    span = plan.spans().get(parameter.name, parameter.span)
    parameter.check(span)
    return Axis(parameter, *span, plan.points)


def _described(axis: Axis) -> dict[str, Any]:
    parameter = axis.parameter
    return {
        "label": parameter.label,
        "unit": parameter.unit,
        "trained": parameter.trained,
        "held": axis.held,
        "low": axis.low,
        "high": axis.high,
        "remark": parameter.remark,
    }


def _ranking(indices: dict[str, Any] | None, names: Sequence[str]) -> list[str]:
    """Return the parameters by their total index for survival, and where that is equal, for the measure."""
    if indices is None:
        return []
    return sorted(names, key=lambda name: [-indices[outcome][name]["total"] for outcome in OUTCOMES])
