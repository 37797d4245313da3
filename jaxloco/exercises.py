"""Checks of the exercises in `notebooks/`: what is right, and for typical mistakes a hint.

check("2.1", answer)        prints "2.1: right" or "2.1: not yet. …"
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jaxloco.checks import is_number
from jaxloco.errors import unknown_name
from jaxloco.statistics import seeds_needed

Check = Callable[..., str | None]
"""Answer → None if it is right, otherwise a hint."""


def check(name: str, *answer: Any) -> None:
    """Say whether an answer is right, with a hint if it is not; see `hint`."""
    found = hint(name, *answer)
    print(f"{name}: right" if found is None else f"{name}: not yet. {found}")


def hint(name: str, *answer: Any) -> str | None:
    """Return None if an answer is right, otherwise a hint.

    Args:
        name: Number of the exercise, such as "2.1".
        answer: What the exercise asks for; dots while there is none.

    Raises:
        UnknownNameError: There is no such exercise.
    """
    if name not in EXERCISES:
        raise unknown_name("exercise", name, EXERCISES)
    if not answer:
        return f'Give the answer too: check("{name}", answer).'
    if any(part is ... for given in answer for part in (given.values() if isinstance(given, dict) else (given,))):
        return "Put your answer in the place of the dots."
    try:
        return EXERCISES[name](*answer)
    except Exception as error:  # of the student's code, or of what it returned
        return f"It raises {type(error).__name__}: {error}"


def number(right: float, mistakes: Mapping[float, str], otherwise: str, tolerance: float = 2e-3) -> Check:
    """Make the check of a number: right within a tolerance, with the hint of the mistake that gives it."""

    def checked(answer: Any) -> str | None:
        given = _as_number(answer)
        if given is None:
            return "Give one number."
        for value, hint in ((right, None), *mistakes.items()):
            if math.isclose(given, value, rel_tol=tolerance, abs_tol=1e-9):
                return hint
        return otherwise

    return checked


def _as_number(answer: Any) -> float | None:
    """Return a number, or an array or a list of a single one, as a float; None of anything else."""
    values = np.asarray(answer, object).ravel()
    one = values[0] if len(values) == 1 else None
    return float(one) if is_number(one) else None


def choice(right: set[str], hints: Mapping[str, str]) -> Check:
    """Make the check of a set of names; hints say of each one why it belongs to it, or why not."""

    def checked(answer: Any) -> str | None:
        names = [answer] if isinstance(answer, str) or not isinstance(answer, Iterable) else list(answer)
        if strange := [name for name in names if not isinstance(name, str) or name not in hints]:
            return f"Names are {', '.join(sorted(hints))}; not {', '.join(map(str, strange))}."
        given = set(names)
        wrong = [*sorted(given - right), *sorted(right - given)]
        return hints[wrong[0]] if wrong else None

    return checked


def _balances(seconds: float, distance: float) -> str | None:
    if seconds < 9.99:
        return f"One robot lasted {seconds:.1f} s, not ten: too large an integral gain makes it swing ever further."
    if distance >= 0.1:
        return f"All stand, but one is {distance:.2f} m away at the end. The integral gain is what takes that away."
    return None


def _backup(backup: Callable[..., Any]) -> str | None:
    rng = np.random.default_rng(0)
    P, R, V, gamma = rng.dirichlet(np.ones(4), (4, 3)), rng.normal(size=(4, 3)), rng.normal(size=4), 0.7
    q, swept = R + gamma * P @ V, V.copy()
    for state in range(4):
        swept[state] = np.max(R[state] + gamma * P[state] @ swept)
    found = np.asarray(backup(P.copy(), R.copy(), gamma, V.copy()))  # copies: it may write into what it is given
    mistakes = {
        "": q.max(axis=1),
        "It reads values that it has overwritten: leave V as it is, and write the new ones to another array.": swept,
        "gamma is missing: what follows is worth less than what is now.": (R + P @ V).max(axis=1),
        "That is the mean over actions. The best policy takes the best one.": q.mean(axis=1),
        "The reward is missing.": gamma * (P @ V).max(axis=1),
        "The largest reward and the largest value may belong to different actions: add first.": R.max(axis=1)
        + gamma * (P @ V).max(axis=1),
    }
    return _matched(found, mistakes, "Expected (S,): the maximum over actions of R + gamma · P @ V.")


def _matched(found: np.ndarray, mistakes: Mapping[str, np.ndarray], otherwise: str) -> str | None:
    """Return the hint of what was found; the right answer comes first and has an empty one."""
    if found.dtype == object:
        return "It returns no numbers yet."
    for hint, value in mistakes.items():
        if found.shape == value.shape and np.allclose(found, value, rtol=1e-5, atol=1e-7):
            return hint or None
    expected = next(iter(mistakes.values())).shape
    return otherwise if found.shape == expected else f"It returns the shape {found.shape}. {otherwise}"


def _log_prob(log_prob: Callable[..., Any]) -> str | None:
    a, mean, sigma = np.array([0.3, -1.0]), np.array([0.0, 0.5]), np.array([0.5, 3.0])
    z, half = (a - mean) / sigma, 0.5 * math.log(2.0 * math.pi)
    right = np.array(np.sum(-0.5 * z**2 - np.log(sigma) - half))
    mistakes = {
        "": right,
        "One factor ½ is missing, in front of the square.": np.array(np.sum(-(z**2) - np.log(sigma) - half)),
        "log σ is missing: the density of a wide Gaussian is low.": np.array(np.sum(-0.5 * z**2 - half)),
        "log σ is subtracted: the density of a wide Gaussian is low.": np.array(
            np.sum(-0.5 * z**2 + np.log(sigma) - half)
        ),
        "½ log 2π counts once for each action.": np.array(np.sum(-0.5 * z**2 - np.log(sigma)) - half),
        "The square is not divided by σ².": np.array(np.sum(-0.5 * (a - mean) ** 2 - np.log(sigma) - half)),
        "This is the probability density, not its logarithm.": np.exp(right),
        "One number per action. They are independent: add the logarithms.": -0.5 * z**2 - np.log(sigma) - half,
    }
    return _matched(np.asarray(log_prob(a, mean, sigma)), mistakes, "Expected one number: compare term by term.")


def _surrogate(surrogate: Callable[..., Any]) -> str | None:
    rng = np.random.default_rng(1)
    log_prob, advantage = rng.normal(size=(6, 1)), rng.normal(size=6)
    right = np.array(np.mean(log_prob[:, 0] * advantage))
    mistakes = {
        "": right,
        "Print the shape of the product: (N, 1) times (N,) is (N, N).": np.array(np.mean(log_prob * advantage)),
        "The sign: this one is to be maximized.": -right,
        "That is the sum. A mean does not grow with the number of samples.": 6.0 * right,
    }
    return _matched(np.asarray(surrogate(log_prob, advantage)), mistakes, "Expected one number, the mean over samples.")


FAULTS: dict[str, tuple[dict[str, float], str]] = {
    "rate too high": (
        {"learning_rate": 0.1},
        "One run changes its policy by far too much per update: approx_kl and clip_fraction tell which.",
    ),
    "rate too low": ({"learning_rate": 1e-6}, "One run hardly changes its policy: look for the smallest approx_kl."),
    "noise rewarded": ({"ent_coef": 0.3}, "In one run the noise grows: look at std."),
    "blind critic": ({"vf_coef": 0.0}, "In one run the critic never predicts returns: look at explained_variance."),
}
"""What is wrong with a run of notebook 4 → options of PPO that break it, and by which metric it is seen."""

BROKEN = dict(zip("ABCD", ("noise rewarded", "rate too low", "blind critic", "rate too high"), strict=True))
"""Run of notebook 4 → what is wrong with it."""


def broken(run: str) -> dict[str, float]:
    """Return the options of PPO of a run that is broken on purpose: "A" to "D"."""
    return FAULTS[BROKEN[run]][0]


def _diagnosis(answer: Any) -> str | None:
    named = isinstance(answer, Mapping) and set(answer) == set(BROKEN)
    if not named or not all(fault in list(FAULTS) for fault in answer.values()):
        return f"Give one fault for each of {', '.join(BROKEN)}: {', '.join(FAULTS)}."
    wrong = [fault for run, fault in BROKEN.items() if answer[run] != fault]
    return FAULTS[wrong[0]][1] if wrong else None


def _explained_variance(function: Callable[..., Any]) -> str | None:
    rng = np.random.default_rng(2)
    returns = rng.normal(size=50)
    values = 0.8 * returns + 0.3 * rng.normal(size=50) + 1.0
    error = returns - values
    mistakes = {
        "": np.array(1.0 - np.var(error) / np.var(returns)),
        "The variance of the error, not its square: a constant offset of the critic does not count.": np.array(
            1.0 - np.mean(error**2) / np.var(returns)
        ),
        "1 minus it: a perfect critic has 1.": np.array(np.var(error) / np.var(returns)),
        "Divide by the variance of the returns, not of the values.": np.array(1.0 - np.var(error) / np.var(values)),
        "The sign: 1 minus the ratio.": np.array(np.var(error) / np.var(returns) - 1.0),
        "Variances, not standard deviations.": np.array(1.0 - np.std(error) / np.std(returns)),
    }
    return _matched(np.asarray(function(returns, values)), mistakes, "Expected one number: compare with the formula.")


def _stacked(stack: Callable[..., Any]) -> str | None:
    for (steps, size), k in (((4, 2), 3), ((3, 3), 1), ((2, 1), 4)):
        frames = np.arange(1.0, 1.0 + steps * size).reshape(steps, size)
        padded = np.concatenate([np.tile(frames[:1], (k - 1, 1)), frames])
        before = np.concatenate([np.zeros((k - 1, size)), frames])
        mistakes = {
            "": _windows(padded, k),
            "Newest first. Here the oldest frame comes first.": _windows(padded, k, -1),
            "Before the first frame there is no zero: repeat the first frame.": _windows(before, k),
        }
        otherwise = f"Expected (T, k · n): row t holds frames t - k + 1 … t; here T = {steps}, k = {k}, n = {size}."
        if hint := _matched(np.asarray(stack(frames.copy(), k)), mistakes, otherwise):
            return hint
    return None


def _windows(frames: np.ndarray, k: int, order: int = 1) -> np.ndarray:
    """Return each k frames that follow each other as one row, (T - k + 1, k · n); order -1: newest first."""
    return np.stack([frames[t : t + k][::order].ravel() for t in range(len(frames) - k + 1)])


def _safest(answer: str, table: Mapping[str, Any]) -> str | None:
    if not isinstance(answer, str) or answer not in table:
        return f"Give a name: {', '.join(table)}."
    worst = {name: float(np.min(row)) for name, row in table.items()}
    if worst[answer] == max(worst.values()):
        return None
    return f"Where its delays are worst it balances for {worst[answer]:.1f} s. The worst case of another one is better."


def _seeds(answer: Any) -> str | None:
    given = _as_number(answer)
    if given == seeds_needed(1.0):
        return None
    if given == 5:
        return "Five seeds an arm find a difference of 2.1 standard deviations; this one is smaller."
    return "Take `seeds_needed` with the difference in units of the standard deviation."


def _warped(warp: Callable[..., Any]) -> str | None:
    rng = np.random.default_rng(3)
    for samples, moments in ((3, 5), (6, 11), (5, 13)):
        scores = rng.normal(size=(samples, moments))
        paths = [np.cumsum((0, *steps)) for steps in itertools.product((1, 2, 3), repeat=samples - 1)]
        right = max((p for p in paths if p[-1] == moments - 1), key=lambda p: scores[np.arange(samples), p].sum())
        found = np.asarray(warp(scores))
        if found.dtype == object or found.shape != right.shape:
            return "Expected one moment for each sample."
        if not set(np.diff(found)) <= {1, 2, 3} or (found[0], found[-1]) != (0, moments - 1):
            return (
                "The path goes from the first moment to the last, by 1, 2 or 3 each time: came[t, j] is among `before`."
            )
        if not np.array_equal(found, right):
            return (
                "A path has a larger sum: add score(t, j) to the largest of best[t - 1, before], and keep where it was."
            )
    return None


EXERCISES: dict[str, Check] = {
    "1.1": choice(
        {"base_linear_velocity", "push_force"},
        {
            "pitch": "An inertial measurement unit gives the pitch.",
            "ground_velocity": "The wheels' encoders give the ground velocity, as long as they do not slip.",
            "base_linear_velocity": "No sensor of Upkie measures the velocity of its trunk in space.",
            "push_force": "Upkie has no sensor for forces on its trunk.",
        },
    ),
    "1.2": number(
        math.asin(2.0 / 4.905),
        {
            math.asin(2.0 / 9.81): "The centre of mass is half-way along the rod.",
            2.0 / 4.905: "That is the sine of the angle.",
            math.degrees(math.asin(2.0 / 4.905)): "In radians.",
        },
        "At that angle the motor's 2 N m equal the torque of gravity, m g l/2 sin θ.",
    ),
    "1.3": _balances,
    "2.1": number(
        -2.71,
        {
            -3.0: "Without discount it would be. The second step counts 0.9, the third 0.81.",
            2.71: "Steps cost: the value is below zero.",
            -2.439: "The first step is not discounted.",
            -3.439: "Only three steps are paid for: the goal is the end.",
        },
        "Add what the three steps cost, each discounted by 0.9 once more than the one before.",
    ),
    "2.2": _backup,
    "2.3": number(
        90,
        {
            89: "Almost: after 89 it is still above 1 %.",
            math.log(0.01) / math.log(0.95): "Iterations are whole: round up.",
            44: "By 0.95, not by 0.9.",
            59: "That is to 5 %.",
        },
        "Find the smallest n with 0.95ⁿ ≤ 0.01; a logarithm helps.",
        tolerance=1e-9,
    ),
    "3.1": _log_prob,
    "3.2": choice(
        {"constant", "value"},
        {
            "constant": "The mean of ∇ log π over actions is 0, and stays 0 times a constant.",
            "value": "V(s) does not depend on the action, so it only takes away variance.",
            "action value": "Q(s, a) depends on the action: subtracting it takes away the signal itself.",
            "reward": "r(s, a) depends on the action: subtracting it takes away part of the signal.",
        },
    ),
    "3.3": _surrogate,
    "4.1": _diagnosis,
    "4.2": _explained_variance,
    "5.1": number(
        3,
        {
            2: "Two positions give the velocity. But three actions are still on their way; how many frames hold them?",
            4: "The frame at time t already holds the action of t - 1.",
            1: "One frame says nothing of velocity.",
        },
        "Count what the future depends on: positions, velocities, and actions that are on their way.",
        tolerance=1e-9,
    ),
    "5.2": _stacked,
    "6.1": number(
        1.0,
        {2.125: "That is the median of the uniform draw.", 2.0: "The middle of the logarithms, not of the factors."},
        "Half of the draws have a logarithm below the middle of log 0.25 and log 4.",
    ),
    "6.2": _safest,
    "7.1": number(
        0.1,
        {
            0.05: "Either arm may be the upper one.",
            1 / 32: "The six values are not coins: count the ways to choose which three are the upper ones.",
            1 / 720: "The order inside an arm does not matter.",
        },
        "Of the 20 ways to deal six values to two arms of three, how many separate them?",
    ),
    "7.2": _seeds,
    "8.1": number(
        0.60,
        {16.35: "That is g/l.", 0.55: "That is the person's rod.", 1.667: "The other way round: g divided by g/l."},
        "The second value is g/l: divide g by it.",
        tolerance=0.03,
    ),
    "8.2": _warped,
    "8.3": number(
        math.exp(-0.25),
        {
            math.exp(-0.5): "Both are squared.",
            math.exp(-0.125): "Here is no factor ½, as a Gaussian density would have.",
            math.exp(0.25): "The sign: an error makes it smaller.",
            0.75: "That is 1 - e²/σ², its beginning only.",
        },
        "Put e = 0.05 m and σ = 0.1 m in.",
    ),
    "9.1": choice(
        {"student"},
        {
            "teacher": "Then the student never sees what its own mistakes lead to.",
            "student": "The student acts, so that it learns in the states that it gets into itself.",
            "both": "One of them moves the robot; the other one only says what it would have done.",
        },
    ),
    "9.2": choice(
        {"cart_position", "pole_angle", "last_action"},
        {
            "cart_position": "The encoder of the motor gives the position of the cart.",
            "pole_angle": "The encoder at the hinge gives the angle of the pole.",
            "last_action": "The robot knows what it commanded.",
            "cart_velocity": "That is one of the two quantities that this robot does not measure.",
            "pole_velocity": "That is one of the two quantities that this robot does not measure.",
        },
    ),
}
"""Number → check."""
