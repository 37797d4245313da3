"""The course's exercises take right answers, and tell typical mistakes by their hint."""

import math
from fractions import Fraction

import numpy as np
import pytest

from jaxloco.errors import UnknownNameError
from jaxloco.exercises import BROKEN, EXERCISES, FAULTS, broken, check, hint

TABLE = {"narrow": np.array([10.0, 2.0]), "wide": np.array([8.0, 7.0])}
HALF_LOG = 0.5 * math.log(2.0 * math.pi)


def warped(scores, ends=True):
    """The best path over all; without `ends` it may stop anywhere."""
    best, came = np.full(scores.shape, -np.inf), np.zeros(scores.shape, int)
    best[0, 0] = scores[0, 0]
    for t, j in np.ndindex(scores.shape):
        if t and j:
            came[t, j] = max(range(max(j - 3, 0), j), key=lambda i: best[t - 1, i])
            best[t, j] = scores[t, j] + best[t - 1, came[t, j]]
    path = [scores.shape[1] - 1 if ends else int(np.argmax(best[-1]))]
    for t in range(len(scores) - 1, 0, -1):
        path.append(came[t, path[-1]])
    return path[::-1]


def density(a, mean, sigma):
    return -0.5 * ((a - mean) / sigma) ** 2 - np.log(sigma) - HALF_LOG


def stacked(x, k):
    return np.stack([x[np.maximum(np.arange(t - k + 1, t + 1), 0)].ravel() for t in range(len(x))])


def swept(P, R, gamma, V):
    """Value iteration in place: later states see the new values of earlier ones."""
    for state in range(len(V)):
        V[state] = max(R[state, action] + gamma * P[state, action] @ V for action in range(R.shape[1]))
    return V


def in_place(P, R, gamma, V):
    V[:] = (R + gamma * P @ V).max(axis=1)
    return V


RIGHT = {
    "1.1": ({"push_force", "base_linear_velocity"},),
    "1.2": (math.asin(2 / 4.905),),
    "1.3": (10.0, 0.05),
    "2.1": (-2.71,),
    "2.2": (lambda P, R, gamma, V: np.max(R + gamma * P @ V, axis=1),),
    "2.3": (90,),
    "3.1": (lambda a, mean, sigma: density(a, mean, sigma).sum(),),
    "3.2": (["value", "constant"],),
    "3.3": (lambda log_prob, advantage: (log_prob.squeeze(1) * advantage).mean(),),
    "4.1": (BROKEN,),
    "4.2": (lambda R, V: 1 - (R - V).var() / R.var(),),
    "5.1": (3,),
    "5.2": (lambda x, k: stacked(x, k).tolist(),),
    "6.1": (1,),
    "6.2": ("wide", TABLE),
    "7.1": (0.1,),
    "7.2": (np.int64(19),),
    "8.1": (0.597,),
    "8.2": (warped,),
    "8.3": (math.exp(-0.25),),
    "9.1": ("student",),
    "9.2": ({"cart_position", "pole_angle", "last_action"},),
}

WRONG = [
    ("1.1", ({"push_force"},), "No sensor"),
    ("1.1", ({"push_force", "base_linear_velocity", "pitch"},), "inertial"),
    ("1.1", ("yaw",), "Names are"),
    ("1.2", (math.degrees(math.asin(2 / 4.905)),), "radians"),
    ("1.2", (2 / 4.905,), "sine"),
    ("1.3", (3.0, 0.0), "lasted 3.0 s"),
    ("1.3", (10.0, 0.4), "integral"),
    ("2.1", (-3,), "discount"),
    ("2.1", (2.71,), "below zero"),
    ("2.1", (7,), "three steps"),
    ("2.2", (lambda P, R, gamma, V: np.mean(R + gamma * P @ V, axis=1),), "mean over actions"),
    ("2.2", (lambda P, R, gamma, V: np.max(R + P @ V, axis=1),), "gamma is missing"),
    ("2.2", (lambda P, R, gamma, V: R.max(axis=1) + gamma * np.max(P @ V, axis=1),), "different actions"),
    ("2.2", (lambda P, R, gamma, V: None,), "no numbers"),
    ("2.2", (lambda P, R, gamma, V: P @ V[:2],), "raises ValueError"),
    ("2.2", (lambda P, R, gamma, V: (R + gamma * P @ V).max(axis=0),), "It returns the shape (3,)"),
    ("2.2", (lambda P, R, gamma, V: swept(P, R, gamma, V),), "overwritten"),
    ("2.3", (89,), "Almost"),
    ("2.3", (math.log(0.01) / math.log(0.95),), "round up"),
    ("3.1", (lambda a, mean, sigma: np.sum(-(((a - mean) / sigma) ** 2) - np.log(sigma) - HALF_LOG),), "½"),
    ("3.1", (density,), "add the logarithms"),
    ("3.1", (lambda a, mean, sigma: np.sum(density(a, mean, sigma) + np.log(sigma)),), "log σ is missing"),
    ("3.1", (lambda a, mean, sigma: np.sum(density(a, mean, sigma) + 2 * np.log(sigma)),), "log σ is subtracted"),
    ("3.1", (lambda a, mean, sigma: np.sum(density(a, mean, sigma) - np.log(sigma)),), "term by term"),
    ("3.1", (lambda a, mean, sigma: np.sum(density(a, mean, sigma) + HALF_LOG) - HALF_LOG,), "once for each action"),
    ("3.1", (lambda a, mean, sigma: [density(a, mean, sigma).sum()],), "It returns the shape (1,)"),
    ("3.1", (lambda a, mean, sigma: math.exp(density(a, mean, sigma).sum()),), "not its logarithm"),
    ("3.2", ({"constant", "value", "action value"},), "signal"),
    ("3.3", (lambda log_prob, advantage: np.mean(log_prob * advantage),), "(N, N)"),
    ("3.3", (lambda log_prob, advantage: -np.mean(log_prob[:, 0] * advantage),), "sign"),
    ("4.1", ({**BROKEN, "A": BROKEN["B"], "B": BROKEN["A"]},), "std"),
    ("4.1", ({"A": "rate too high"},), "one fault for each"),
    ("4.2", (lambda R, V: 1 - np.mean((R - V) ** 2) / R.var(),), "constant offset"),
    ("4.2", (lambda R, V: (R - V).var() / R.var(),), "1 minus"),
    ("4.2", (lambda R, V: (R - V).var() / R.var() - 1,), "sign"),
    ("4.2", (lambda R, V: 1 - (R - V).std() / R.std(),), "not standard deviations"),
    ("4.2", (lambda R, V: 1 - (R - V).var(ddof=1) / R.var(),), "Expected one number"),
    ("5.1", (2,), "three actions"),
    ("5.1", (4,), "already"),
    ("5.2", (lambda x, k: x,), "Expected"),
    ("5.2", (lambda x, k: stacked(x, k)[:, ::-1],), "Expected"),
    ("5.2", (lambda x, k: stacked(x, 3),), "k = 1"),
    ("5.2", (lambda x, k: stacked(x, k) * (1.0 if k < 4 else 2.0),), "k = 4"),
    ("6.1", (2.125,), "uniform"),
    ("6.2", ("narrow", TABLE), "worst"),
    ("6.2", ("none", TABLE), "Give a name"),
    ("7.1", (0.05,), "Either arm"),
    ("7.2", (5,), "smaller"),
    ("9.1", ("teacher",), "mistakes"),
    ("9.2", ({"cart_position", "pole_velocity", "pole_angle", "last_action"},), "does not measure"),
    ("8.1", (16.4,), "g/l"),
    ("8.1", (0.55,), "the person's"),
    ("8.2", (lambda scores: warped(-scores),), "larger sum"),
    ("8.2", (lambda scores: warped(scores, ends=False),), "from the first moment to the last"),
    ("8.2", (lambda scores: [0],), "one moment for each sample"),
    ("8.3", (math.exp(-0.5),), "squared"),
    ("8.3", (math.exp(-0.125),), "½"),
]


def test_right_answers_are_right(capsys):
    assert set(RIGHT) == set(EXERCISES)
    for name, answer in RIGHT.items():
        check(name, *answer)
    assert capsys.readouterr().out.splitlines() == [f"{name}: right" for name in RIGHT]


@pytest.mark.parametrize(("name", "answer", "told"), WRONG)
def test_typical_mistakes_get_their_hint(name, answer, told):
    assert told in (hint(name, *answer) or "")


ALSO_RIGHT = [
    ("1.2", [math.asin(2 / 4.905)]),
    ("2.1", np.array([-2.71], np.float32)),
    ("2.2", in_place),
    (
        "2.2",
        lambda P, R, gamma, V: [
            max(r + gamma * p @ V for r, p in zip(*both, strict=True)) for both in zip(R, P, strict=True)
        ],
    ),
    ("3.1", lambda a, mean, sigma: sum(map(float, density(a, mean, sigma)))),
    ("3.2", np.array(["value", "constant"])),
    ("3.3", lambda log_prob, advantage: np.float32(np.mean(log_prob * advantage[:, None]))),
    ("4.2", lambda R, V: 1 - (R - V).var(ddof=1) / R.var(ddof=1)),
    ("7.1", Fraction(1, 10)),
    ("9.1", ("student",)),
]


@pytest.mark.parametrize(("name", "answer"), ALSO_RIGHT)
def test_a_right_answer_may_be_written_in_another_way(name, answer):
    assert hint(name, answer) is None


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "1.3" and not callable(RIGHT[name][0])])
@pytest.mark.parametrize("answer", [None, "nothing", True, [["a"]], 1j])
def test_an_answer_of_another_kind_is_told_what_to_give(name, answer):
    told = hint(name, answer, *RIGHT[name][1:]) or ""
    assert told.startswith(("Give", "Names are", "Take"))


def test_a_check_without_an_answer_is_told_how_to_give_it():
    assert hint("2.1") == 'Give the answer too: check("2.1", answer).'


def test_dots_are_no_answer(capsys):
    for name, answer in {"2.1": ..., "4.1": dict.fromkeys("ABCD", ...)}.items():
        check(name, answer)
        assert capsys.readouterr().out.startswith(f"{name}: not yet. Put your answer in the place of the dots")


def test_an_unknown_exercise_is_an_error_with_the_closest_one():
    with pytest.raises(UnknownNameError, match=r"2\.1"):
        hint("2.11", 0)


def test_every_fault_is_that_of_one_broken_run():
    assert sorted(BROKEN.values()) == sorted(FAULTS)
    assert broken("D") == {"learning_rate": 0.1}
