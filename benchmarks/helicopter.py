"""Aerobatics from synthetic demonstrations: the aligned trajectory, and flights of helicopters not seen before."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import common
from jaxloco.demonstrations.manoeuvres import MANOEUVRES

NAME = "helicopter"


@dataclass(frozen=True)
class HelicopterOptions:
    """Options of the benchmark.

    Attributes:
        manoeuvres: What is flown.
        seed: Seed of the first set of demonstrations and of the flights.
        sets: Sets of eight demonstrations that are aligned, of each manoeuvre; the first one is flown.
        flights: Helicopters that fly, of each manoeuvre, each with parameters and gusts of its own.
        out: JSON file of the result; benchmarks/results/helicopter.json if not given.
    """

    manoeuvres: tuple[str, ...] = tuple(MANOEUVRES)
    seed: int = 100
    sets: int = 3
    flights: int = 20
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "sets", "flights")


def main(arguments: Sequence[str]) -> int:
    """Measure apprenticeship on the helicopter's manoeuvres: helicopter [options]."""
    return common.command(NAME, HelicopterOptions(), arguments, main.__doc__, run, show)


def run(own: HelicopterOptions) -> Iterator[dict[str, Any]]:
    """Align demonstrations and fly; yield what is measured so far, plain JSON values."""
    found: dict[str, Any] = {}
    for name in own.manoeuvres:
        found[name] = _measured(name, own)
        yield {"manoeuvres": found}


def _measured(name: str, own: HelicopterOptions) -> dict[str, Any]:
    import jax

    from jaxloco.demonstrations.aerobatics import Planner, distance, learn
    from jaxloco.demonstrations.manoeuvres import ideal
    from jaxloco.demonstrations.pilot import demonstrate, fly
    from jaxloco.tasks.helicopter import Helicopter

    task = Helicopter(manoeuvre=name)
    env, shown = task.spec().build("native"), replace(task, spread=0.0).spec().build("native")
    wished, pilots, aligned, left_out, first = ideal(env.robot, name).states, [], [], [], None
    for seed in range(own.seed, own.seed + own.sets):
        demonstrations = demonstrate(shown, name, seed)
        lesson = learn(demonstrations, env.dt, MANOEUVRES[name].in_place)
        first = first or lesson
        pilots.append([distance(flight.states, wished) for flight in demonstrations])
        left_out.append([number for number, _ in lesson.left_out])
        aligned.append(distance(lesson.alignment.states[::2], wished))
    assert first is not None
    keys = jax.random.split(jax.random.PRNGKey(own.seed), own.flights)
    flown = fly(env, keys, first.length - 1, Planner(first, env.dt))
    errors = [distance(flight.states, wished) for flight, _ in flown]
    median = statistics.median(pilots[0])
    return {
        "seconds": env.dt * (len(wished) - 1),
        "pilots": [[round(value, 4) for value in values] for values in pilots],
        "aligned": [round(value, 4) for value in aligned],
        "aligned_to_best_pilot": [round(a / min(p), 3) for a, p in zip(aligned, pilots, strict=True)],
        "left_out": left_out,
        "flights": [round(value, 4) for value in errors],
        "better_than_median_pilot": sum(lasted and e < median for (_, lasted), e in zip(flown, errors, strict=True)),
    }


def show(document: Mapping[str, Any]) -> str:
    """Return the results as lines of text."""
    lines = [
        "manoeuvre  median pilot  best pilot  aligned / best (sets)  flights: median, worst  better than median pilot"
    ]
    for name, found in document["manoeuvres"].items():
        pilots, flights = found["pilots"][0], found["flights"]
        ratios = ", ".join(f"{value:.2f}" for value in found["aligned_to_best_pilot"])
        lines.append(
            f"{name:10} {statistics.median(pilots):12.3f}  {min(pilots):10.3f}  {ratios:>21}  "
            f"{statistics.median(flights):10.3f}, {max(flights):.3f}      "
            f"{found['better_than_median_pilot']} of {len(flights)}"
        )
    return "\n".join(lines)
