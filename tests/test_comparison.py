"""Runs compared: verdicts that are known by hand, and what is said of runs that cannot be compared."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from run_figures import config_of, write_joint, write_run

from jaxloco import cli
from jaxloco.comparison.arms import read_arms
from jaxloco.comparison.compare import compare
from jaxloco.comparison.metric import find_metric
from jaxloco.comparison.report import as_json, as_text, sentence, warnings_of, write_figure
from jaxloco.comparison.verdict import judge
from jaxloco.errors import CheckpointError, ConfigError
from jaxloco.statistics import detectable
from jaxloco.training.run_folder import RunFolder, read_json, write_json

LOW = [10.0, 11.0, 12.0, 13.0, 14.0]
HIGH = [20.0, 21.0, 22.0, 23.0, 24.0]
ARM = {"ppo": {"learning_rate": 3e-4}}


def pair(tmp_path: Path, a=LOW, b=HIGH, **changes) -> list[str]:
    return [str(write_joint(tmp_path / "a", a)), str(write_joint(tmp_path / "b", b, 10, **(changes or ARM)))]


def changed(path: Path, key: str, value) -> None:
    """Change one entry of a JSON file."""
    data = read_json(path)
    *above, last = key.split(".")
    place = data
    for part in above:
        place = place[part]
    place[last] = value
    write_json(path, data)


# Verdicts


def test_arms_that_do_not_overlap_differ():
    (verdict,) = judge(LOW, [HIGH])
    assert verdict.kind == "effect" and verdict.difference == 10.0 and verdict.probability == 1.0
    # Of the 252 ways to deal, this one and one with 14 and 20 swapped, which the means leave out; and their mirrors.
    assert verdict.p == verdict.p_holm == pytest.approx(4 / 252)
    assert verdict.deviation == pytest.approx(np.std(LOW, ddof=1))
    assert verdict.detectable == detectable(5, 5) and verdict.p_margin is None


def test_equal_arms_cannot_be_told_apart_and_a_wide_margin_holds_them():
    (verdict,) = judge(LOW, [LOW])
    assert verdict.kind == "cannot tell" and verdict.p == 1.0 and verdict.seeds_needed is None
    assert judge(LOW, [LOW], margin=5.0)[0].kind == "no effect larger than the margin"
    (narrow,) = judge(LOW, [LOW], margin=1.0)
    assert narrow.kind == "cannot tell" and detectable(10, 10) > 1.0 / narrow.deviation > detectable(200, 200)
    assert detectable(narrow.seeds_needed, narrow.seeds_needed) * narrow.deviation <= 1.0


def test_a_small_sure_difference_is_no_effect_where_a_larger_one_is_what_matters():
    other = [value + 5.0 for value in LOW]
    assert judge(LOW, [other])[0].kind == "effect"
    assert judge(LOW, [other], margin=10.0)[0].kind == "no effect larger than the margin"
    assert judge(LOW, [other], margin=5.0)[0].kind == "effect"  # as large as the margin


def test_equal_seeds_do_not_differ_by_rounding(tmp_path):
    (verdict,) = judge([0.7] * 6, [[0.7] * 7])
    assert verdict.difference == verdict.deviation == 0.0
    words = [str(write_joint(tmp_path / name, [0.7] * 6, first)) for name, first in (("a", 0), ("b", 6))]
    assert "all seeds of each arm are equal" in sentence(compare(words), 1)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_fewer_than_five_seeds_never_tell(count):
    for margin in (None, 100.0):
        (verdict,) = judge(LOW[:count], [HIGH[:count]], margin)
        assert verdict.kind == "cannot tell" and verdict.seeds_needed == 5 and verdict.detectable == np.inf


def test_more_arms_make_each_finding_harder():
    verdicts = judge(LOW, [HIGH, LOW, [12.0] * 5])
    assert verdicts[0].p_holm == pytest.approx(3 * verdicts[0].p) and verdicts[0].kind == "effect"
    assert [v.kind for v in verdicts[1:]] == ["cannot tell"] * 2
    assert judge(LOW, [HIGH] * 7)[0].kind == "cannot tell"  # 7 · 4/252 > 0.05: more seeds are needed
    assert judge(LOW, [HIGH] * 7)[0].seeds_needed > 5


def test_equal_arms_are_called_different_as_often_as_promised():
    rng = np.random.default_rng(1)
    found = [judge(rng.normal(size=5), [rng.normal(size=5)])[0].kind == "effect" for _ in range(400)]
    assert np.mean(found) <= 0.075  # 12 of 252 in the long run, and 2.5 standard errors


# Reading


def test_runs_of_several_seeds_are_compared(tmp_path, capsys):
    words = pair(tmp_path)
    found = compare(words)
    assert [arm.name for arm in found.arms] == ["a", "b"] and found.values == [LOW, HIGH]
    assert found.settings == [{"ppo.learning_rate": (1e-3, 3e-4)}] and warnings_of(found) == []
    assert sentence(found, 1) == "effect: b is better, 10 higher than a"
    assert found.threshold == 11.0 and [found.below(index) for index in (0, 1)] == [1, 0]  # half of the best, 22
    assert cli.main(["compare", *words, "--figure", "none"]) == 0
    text = capsys.readouterr().out
    assert text.strip() == as_text(found) and "10; 11; 12; 13; 14" in text and "88%" in text
    assert "b: ppo.learning_rate 0.001 → 0.0003" in text and not Path("comparison.png").exists()


def test_several_run_folders_make_an_arm_with_a_name(tmp_path):
    config = config_of()
    runs = [write_run(tmp_path / f"r{seed}", replace(config, seed=seed), value) for seed, value in enumerate(LOW)]
    more = write_joint(tmp_path / "more", HIGH, 5)
    first = "old=" + ",".join(map(str, runs[:2]))
    found = compare([first, ",".join([str(more), *map(str, runs[2:])])])
    assert [arm.name for arm in found.arms] == ["old", "more"]
    assert found.values == [[10.0, 11.0], [*HIGH, 12.0, 13.0, 14.0]]
    assert "no setting of more differs from old's" in warnings_of(found)[0]
    assert "fewer than 5 seeds in old" in warnings_of(found)[1]


def test_json_says_what_the_text_says(tmp_path, capsys):
    assert cli.main(["compare", *pair(tmp_path), "--json", "--margin", "1"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert [arm["values"] for arm in data["arms"]] == [LOW, HIGH] and data["arms"][0]["coverage"] == 0.88
    (verdict,) = data["comparisons"]
    assert verdict["kind"] == "effect" and verdict["p"] == pytest.approx(4 / 252) and data["margin"] == 1.0
    assert verdict["settings"] == {"ppo.learning_rate": [1e-3, 3e-4]}
    assert Path("comparison.png").stat().st_size > 10_000 and "comparison.png" in err


def test_every_kind_of_metric_has_its_direction(tmp_path):
    words = pair(tmp_path)
    assert compare(words, "survived").values[1] == [0.2, 0.21, 0.22, 0.23, 0.24]
    assert compare(words, "survived").threshold == 0.95
    assert not compare(words, "alive").metric.lower_is_better
    action = compare(words, "action")
    assert action.values[0] == [5.0 * value for value in LOW] and action.metric.lower_is_better  # a negative weight
    assert sentence(action, 1) == "effect: b is worse, 50 higher than a"
    assert "P(arm < a)" in as_text(action) and compare(words, "speed_error").metric.lower_is_better
    with pytest.raises(ConfigError, match=r"unknown metric 'retrun'; did you mean 'return'\? Known: action, alive"):
        compare(words, "retrun")


def test_env_steps_to_a_return_are_read_from_the_curves(tmp_path):
    found = compare(pair(tmp_path, [*LOW, 5.0], [*HIGH, 20.0]), "env_steps_to=10")
    assert found.values[0] == [320.0, 320.0, 288.0, 256.0, 256.0, 320.0]  # the last one never gets there
    assert found.failed == [1, 0] and found.below(0) == 1 and found.metric.lower_is_better
    assert "1 of 6 seeds of a never reached it, and count as the worst" in warnings_of(found)
    assert sentence(found, 1).startswith("effect: b is better")
    with pytest.raises(ConfigError, match="write the return to be reached, such as env_steps_to=400"):
        compare(pair(tmp_path / "again"), "env_steps_to=soon")


def test_a_seed_that_reaches_the_return_in_its_last_iteration_is_not_worse_than_one_that_never_does(tmp_path):
    """Of 310 env steps in iterations of 32, the last one ends after 320."""
    words = [
        str(write_joint(tmp_path / name, own, first, total_timesteps=310))
        for name, own, first in (("a", [*LOW, 5.0], 0), ("b", [*HIGH, 20.0], 10))
    ]
    assert compare(words, "env_steps_to=10").values[0] == [320.0, 320.0, 288.0, 256.0, 256.0, 320.0]


def test_a_limit_that_has_no_effect_is_refused(tmp_path):
    words = pair(tmp_path)
    for option in ("threshold", "evaluate"):
        with pytest.raises(ConfigError, match=f"--{option} 5: has no effect on env_steps_to=10"):
            compare(words, "env_steps_to=10", **{option: 5})


@pytest.mark.parametrize("raw", [(0.3, 0.0), (0.0, 0.3), (0.3, None), (None, 0.3)])
def test_a_penalty_that_some_seed_avoids_is_better_where_it_is_lower(raw):
    figures = [{"reward_terms": {"limits": -2.0 * (x or 0.0)}, "reward_raw": {"limits": x}} for x in raw]
    arms = [SimpleNamespace(seeds=[SimpleNamespace(evaluation=each)]) for each in figures]
    assert find_metric("limits", arms).lower_is_better


@pytest.mark.parametrize("words", [["a=", "b=x"], [",", "b=x"]])
def test_an_arm_without_runs_is_named(words):
    with pytest.raises(ConfigError, match=f"'{words[0]}' names no run; write NAME=PATH,PATH"):
        read_arms(words)


def test_failed_seeds_count_as_the_worst(tmp_path):
    words = pair(tmp_path, [*LOW[:4], None], HIGH)
    found = compare(words)
    assert found.values[0] == [*LOW[:4], 10.0 - 14.0] and found.failed == [1, 0]
    assert compare(words, "survived").values[0][-1] == 0.0
    assert compare(words, "action").values[0][-1] == 120.0 + 120.0  # the worst of all arms: lower is better
    assert "1 of 5 seeds of a failed, and count as the worst" in warnings_of(found)
    assert write_figure(found, tmp_path / "f.png").stat().st_size > 10_000


def test_a_failed_seed_is_worse_than_any_other_where_all_others_are_equal(tmp_path):
    found = compare(pair(tmp_path, [500.0] * 5, [None, None, None, 500.0, 500.0]), threshold=-1000.0)
    assert found.values[1] == [0.0, 0.0, 0.0, 500.0, 500.0] and [found.below(index) for index in (0, 1)] == [0, 3]
    assert "seeds of b vary more than 2 times as much as those of a: the p-value is Welch's" in warnings_of(found)[0]


def test_the_same_trainings_twice_are_told(tmp_path):
    words = [str(write_joint(tmp_path / name, LOW)) for name in "ab"]
    assert "no setting of b differs from a's: seeds 0, 1, 2, 3, 4 are in both" in warnings_of(compare(words))[0]


def test_an_arm_in_which_learning_diverged_in_every_seed_counts(tmp_path):
    found = compare(pair(tmp_path, [None] * 5, HIGH), "survived")
    assert found.values[0] == [0.0] * 5 and sentence(found, 1).startswith("effect: b is better")
    assert write_figure(found, tmp_path / "f.png").stat().st_size > 10_000
    with pytest.raises(ConfigError, match="learning diverged in every seed of every arm"):
        compare([str(write_joint(tmp_path / name, [None] * 5, first)) for name, first in (("c", 0), ("d", 5))])


def test_more_than_one_differing_setting_is_warned_of(tmp_path):
    words = pair(tmp_path, ppo={"learning_rate": 1e-4, "gamma": 0.9}, n_envs=8, total_timesteps=320)
    found = compare(words)
    assert list(found.settings[0]) == ["ppo.gamma", "ppo.learning_rate", "n_envs"]
    assert "3 settings of b differ from a's" in warnings_of(found)[0]


def test_where_nothing_can_be_told_it_says_what_would_and_how_many_seeds(tmp_path):
    near = compare(pair(tmp_path, LOW, [value + 1.5 for value in LOW]))
    text = sentence(near, 1)
    assert text.startswith("cannot tell: 5 seeds see ≥ 2.1 standard deviations (≥ 3.396) with a power of 0.8")
    assert "this difference is 0.95 (1.5); run 16 more seeds an arm (--seed 15 on)" in text
    for seed in near.arms[1].seeds:
        changed(seed.folder.summary, "evaluation.return_mean", 12.001)
    assert "more than 200 seeds an arm would be needed" in sentence(compare([str(tmp_path / n) for n in "ab"]), 1)


# Refusals


def refusal(words, *options, metric="return") -> str:
    with pytest.raises(ConfigError) as error:
        compare(words, metric, *options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_arm_or_one_run_in_two_arms_is_no_comparison(tmp_path):
    a, b = pair(tmp_path)
    assert "one arm alone" in refusal([a])
    assert "seed_0 is in two arms, a and x; leave it out of one" in refusal([a, f"x={a}"])
    assert "a is there twice" in refusal([a, a])
    assert "there is no run folder" in refusal([a, str(tmp_path / "c")])
    assert "seed 0 is there twice" in refusal([f"{a},{write_joint(tmp_path / 'd', LOW)}", b])


def test_one_seed_is_refused_with_the_command_that_trains_more(tmp_path):
    a, _ = pair(tmp_path)
    one = write_run(tmp_path / "one", config_of(seed=3), 5.0)
    told = refusal([a, str(one)])
    assert "one has one seed only" in told and "train.py cartpole" in told and "--seed 4 --seeds 9" in told


def test_runs_of_other_tasks_or_lengths_are_refused(tmp_path):
    a, b = pair(tmp_path)
    for seed in RunFolder(Path(b)).seeds:
        changed(seed.summary, "robot", "another")
    assert "runs of another robot, cartpole and another; compare runs of one robot" in refusal([a, b])
    longer = str(write_joint(tmp_path / "long", HIGH, 10, total_timesteps=640))
    assert "trained for 320 and 640 env steps" in refusal([a, longer])
    assert "train a again with --total-timesteps 640" in refusal([a, longer])
    for run in [RunFolder(Path(b)), *RunFolder(Path(b)).seeds]:
        data = read_json(run.config)
        write_json(run.config, {"task_name": "pendulum-swingup", "total_timesteps": 320, "seed": data["seed"]})
    changed(Path(b) / "config.json", "seeds", 5)
    assert "a and b are runs of another task, cartpole and pendulum-swingup" in refusal([a, b])


def test_differing_evaluations_are_refused_with_what_can_be_compared(tmp_path):
    a, b = pair(tmp_path)
    other = str(write_joint(tmp_path / "c", HIGH, 10, eval_episodes=8))
    assert "different numbers of episodes, 4 and 8; evaluate all policies alike" in refusal([a, other])
    for seed in RunFolder(Path(b)).seeds:
        changed(seed.summary, "evaluation.physics", "warp")
    assert "different engines, native and warp" in refusal([a, b])
    compare([a, b], "env_steps_to=10")  # no evaluation in it
    track = config_of().task
    wide = str(write_joint(tmp_path / "d", HIGH, 10, task=replace(track, track=2.0)))
    assert "different environments (task.track 2.4 and 2.0); evaluate all" in refusal([a, wide])
    assert "leave that setting as it is in both" in refusal([a, wide], metric="env_steps_to=10")


def test_differing_rewards_leave_what_has_no_weights_in_it(tmp_path):
    names = []
    for name, weight, first in (("a", 1.0, 0), ("b", 2.0, 5)):
        names.append(str(write_joint(tmp_path / name, LOW, first)))
        for run in [RunFolder(Path(names[-1])), *RunFolder(Path(names[-1])).seeds]:
            changed(run.config, "task_name", "go1-velocity")
            changed(run.config, "task", {"weights": {"gait": weight}})
    assert "different rewards (task.weights.gait), so their returns cannot be compared" in refusal(names)
    assert "compare --metric survived, or a reward term" in refusal(names, metric="env_steps_to=3")
    assert compare(names, "survived").settings == [{"task.weights.gait": (1.0, 2.0)}]
    assert compare(names, "alive").values == [LOW, LOW]


def test_nan_is_told_with_the_figures_that_there_are(tmp_path):
    a, b = pair(tmp_path)
    changed(RunFolder(Path(b)).seed(12).summary, "evaluation.return_mean", None)
    told = refusal([a, b])
    assert "return is missing, or was NaN, expected a number" in told and "seed_12" in told
    assert "--metric survived, passed, seconds" in told and compare([a, b], "survived").values[0]


def test_runs_that_are_not_finished_say_how_to_go_on(tmp_path):
    a, b = pair(tmp_path)
    seed = RunFolder(Path(b)).seed(12)
    seed.summary.unlink()
    told = refusal([a, b])
    assert "320 of 320 env steps, no evaluation and no checkpoint to go on from" in told
    assert "train.py cartpole" in told and "--seed 12" in told
    (seed.checkpoints / "10").mkdir(parents=True)
    assert f"Go on with: jaxloco train --resume {b}" in refusal([a, b])
    shutil.rmtree(seed.path)
    told = refusal([a, b])
    assert "b is a run of 5 seeds, and" in told and "seed_12 is missing; what is left can be compared as" in told
    left = ",".join(str(RunFolder(Path(b)).seed(number)) for number in (10, 11, 13, 14))
    assert left in told and len(read_arms([a, left])[1].seeds) == 4


def test_the_evaluation_before_a_run_was_prolonged_is_not_that_of_its_end(tmp_path):
    """A finished run goes on with more steps, and is killed, or diverges: its summary is still the one before."""
    a, b = pair(tmp_path)
    seed = RunFolder(Path(b)).seed(12)
    changed(seed.summary, "env_steps", 320)
    assert compare([a, b]).values[1] == HIGH
    changed(seed.summary, "env_steps", 160)
    assert "seed_12 has not finished: 320 of 320 env steps" in refusal([a, b])
    rows = seed.metrics_csv.read_text().rstrip().rsplit("\n", 1)
    seed.metrics_csv.write_text(f"{rows[0]}\n{rows[1].rpartition(',')[0]},nan\n")  # its loss
    found = compare([a, b])
    assert found.failed == [0, 1] and found.values[1] == [20.0, 21.0, 10.0 - 14.0, 23.0, 24.0]


@pytest.mark.parametrize(
    ("file", "key", "value", "told"),
    [
        ("summary.json", "evaluation", 7, "summary.json is damaged; write it anew"),
        ("summary.json", "versions", 3, "summary.json is damaged; write it anew"),
        ("summary.json", "env_steps", "x", "summary.json is damaged; write it anew"),
        ("config.json", "algorithm", 7, "algorithm must be a name, not 7"),
        ("config.json", "version", 99, "version is 99, and this jaxloco reads version 2"),
        ("config.json", "version", "2", "version is '2', and this jaxloco reads version 2"),
        ("../config.json", "seeds", "2", "seeds must be a whole number, not '2'"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(tmp_path, file, key, value, told):
    a, b = pair(tmp_path)
    changed(RunFolder(Path(b)).seed(12).path / file, key, value)
    assert told in refusal([a, b])


def test_runs_without_evaluation_are_compared_by_their_curves(tmp_path):
    words = []
    for name, first in (("a", 0), ("b", 5)):
        words.append(str(write_joint(tmp_path / name, LOW, first, eval_episodes=0)))
        for seed in RunFolder(Path(words[-1])).seeds:
            summary = read_json(seed.summary)
            write_json(seed.summary, {key: value for key, value in summary.items() if key != "evaluation"})
    assert "has no evaluation; evaluate all policies now" in refusal(words)
    assert compare(words, "env_steps_to=10").values[0][0] == 320.0


def test_an_arm_holds_one_configuration(tmp_path):
    a, b = pair(tmp_path)
    assert "has ppo.learning_rate = 0.0003" in refusal([f"{a},{b}", b])


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf"])
def test_a_margin_is_a_number_above_0(tmp_path, value, capsys):
    assert cli.main(["compare", *pair(tmp_path), f"--margin={value}"]) == 2
    assert f"--margin {float(value)}: must be a number above 0" in capsys.readouterr().err


# Evaluated alike


@pytest.mark.exhaustive
@pytest.mark.slow
def test_policies_trained_with_other_pushes_are_evaluated_in_one_environment(tmp_path, capsys):
    from training_helpers import Recorder

    from jaxloco.training.trainer import Trainer

    words = []
    for name, track in (("narrow", 1.0), ("wide", 2.0)):
        config = config_of(seeds=2)
        config = replace(config, task=replace(config.task, track=track), seed=len(words) * 2)
        folder = RunFolder.at(tmp_path / name)
        Trainer(config, folder, Recorder()).run()
        words.append(str(folder))
    assert "different environments" in refusal(words)
    told = []
    found = compare(words, evaluate=6, report=told.append)
    assert told == [f"evaluating 2 seeds of {name}: 6 episodes each" for name in ("narrow", "wide")]
    assert all(seed.evaluation["episodes"] == 6 for arm in found.arms for seed in arm.seeds)
    assert as_json(found)["comparisons"][0]["settings"] == {"task.track": [1.0, 2.0]}
    with pytest.raises(ConfigError, match="--evaluate 6: has no effect on env_steps_to"):
        compare(words, "env_steps_to=10", evaluate=6)
    shutil.rmtree(RunFolder(Path(words[0])).seed(0).checkpoints)
    with pytest.raises(CheckpointError, match="seed_0/checkpoints: there are no checkpoints here; leave that seed out"):
        compare(words, evaluate=6, report=told.append)
