"""Sweeps: what they vary, that they go on where they stopped, and that they end in a comparison."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_figures import write_run
from training_helpers import tiny

from jaxloco import cli, library
from jaxloco.comparison import tuner, variations
from jaxloco.comparison.sweep import Plan, Sweep, confirmation
from jaxloco.comparison.variations import Choice, Span
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.installation import pip_install
from jaxloco.training import preparation
from jaxloco.training.config import plain_config
from jaxloco.training.run_folder import RunFolder, read_json, write_json

PLAN = Plan(vary=("ppo.learning_rate=1e-3,2e-3",))


# What varies


def test_values_are_read_as_people_write_them():
    assert variations.parse("ppo.gae-lambda=0.9,0.95") == Choice("ppo.gae_lambda", (0.9, 0.95))
    assert variations.parse("--n-envs=64,1e2").values == (64, 100.0)
    assert variations.parse("network.net_arch_pi=[8,8],[16]").values == ([8, 8], [16])
    assert variations.parse("ppo.target_kl=none,0.02").values == (None, 0.02)
    assert variations.parse("ppo.normalize_advantage=true,false").values == (True, False)
    assert variations.parse("network.activation_fn=tanh,elu").values == ("tanh", "elu")
    assert variations.parse("ppo.normalize_advantage=true,1").values == (True, 1)
    assert variations.parse("task.robot=../mine,robots/v1..2").values == ("../mine", "robots/v1..2")
    assert variations.parse("ppo.gamma=0.9..0.99") == Span("ppo.gamma", 0.9, 0.99, log=False, whole=False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ppo.gamma", "expected KEY=V1,V2 or KEY=LOW..HIGH"),
        ("ppo.gamma=0.9,0.9", "a value is there twice"),
        ("ppo.gamma=1,1.0", "a value is there twice"),
        ("network.net_arch_pi=[8],[8.0]", "a value is there twice"),
        ("ppo.gamma=0.9..low", "expected two numbers"),
        ("ppo.gamma=0.9..0.99:lin", "expected two numbers"),
        ("ppo.gamma=0.9..0.8", "the first number must be below the second"),
        ("ppo.gamma=0..0.8:log", "below the second and above 0"),
    ],
)
def test_what_cannot_be_read_is_told(text, told):
    with pytest.raises(ConfigError, match="--vary ") as error:
        variations.parse(text)
    assert told in str(error.value)


def test_a_grid_holds_every_combination_the_first_one_first():
    grid = variations.grid([Choice("a", (1, 2)), Choice("b.c", ("x", "y"))])
    assert grid == [{"a": 1, "b.c": "x"}, {"a": 1, "b.c": "y"}, {"a": 2, "b.c": "x"}, {"a": 2, "b.c": "y"}]


def test_draws_are_within_their_ranges_and_the_same_for_a_seed():
    varied = [Span("a", 1e-4, 1e-2, log=True, whole=False), Span("b", 64, 256, log=False, whole=True)]
    drawn = [settings for settings, _ in zip(variations.draws(varied, 3), range(200), strict=False)]
    again = variations.draws(varied, 3)
    assert all(settings == next(again) for settings in drawn)
    assert all(1e-4 <= each["a"] <= 1e-2 and isinstance(each["b"], int) and 64 <= each["b"] <= 256 for each in drawn)
    assert np.mean([each["a"] < 1e-3 for each in drawn]) == pytest.approx(0.5, abs=0.1)  # the middle of the logarithm


def test_no_setting_is_drawn_twice_and_drawing_ends_where_there_are_no_others():
    """Trained twice with the same seeds, a setting would be the same training twice."""
    drawn = list(variations.draws([Choice("a", (1, 2)), Span("b", 1, 3, log=False, whole=True)], 0))
    assert sorted(tuple(each.values()) for each in drawn) == [(a, b) for a in (1, 2) for b in (1, 2, 3)]
    few = list(variations.draws([Span("gamma", 0.99, 0.995, log=False, whole=False)], 0))  # of three digits
    assert sorted(each["gamma"] for each in few) == [0.99, 0.991, 0.992, 0.993, 0.994, 0.995]


def test_settings_are_applied_to_any_depth_and_to_the_algorithm():
    config = variations.applied(tiny(), {"ppo.gamma": 0.9, "n_envs": 100.0, "network.net_arch_pi": [4]})
    assert (config.algorithm.gamma, config.n_envs, config.network.net_arch_pi) == (0.9, 100, (4,))
    assert variations.applied(tiny(), {"algorithm": "vpg"}).algorithm.name == "vpg"


# Sweeps


@pytest.fixture
def trained(monkeypatch) -> list[Path]:
    """Stand in for trainings: a run's return is its learning rate and its seed; a rate of 0.01 diverges."""
    done: list[Path] = []

    def run_training(config: Any, folder: RunFolder, *_: object, resume: bool, **__: object) -> None:
        done.append(folder.path)
        if not resume:
            write_json(folder.config, plain_config(config))
        rate, seeds = config.algorithm.learning_rate, range(config.seed, config.seed + config.seeds)
        for seed in seeds:
            one = replace(config, seed=seed, seeds=1)
            write_run(folder.seed(seed).path, one, None if rate == 0.01 else 1000.0 * rate + 0.01 * seed)
        if rate == 0.01:
            raise JaxlocoError("learning diverged in every seed; see the messages above")
        write_json(folder.summary, {"seeds_failed": [], "interrupted": False})

    monkeypatch.setattr(library, "run_training", run_training)
    return done


def base(**changes: Any) -> Any:
    return tiny(10, **({"seeds": 5, "eval_episodes": 4} | changes))


def test_a_sweep_trains_every_setting_and_compares_them_with_the_first(trained, tmp_path):
    found = Sweep.begin(tmp_path / "s", base(), PLAN).run(report=lambda _: None)
    assert [path.name for path in trained] == ["00_learning_rate=0.001", "01_learning_rate=0.002"]
    assert [arm.name for arm in found.arms] == ["learning_rate=0.001", "learning_rate=0.002"]
    assert found.verdicts[0].kind == "effect" and found.verdicts[0].difference == pytest.approx(1.0)
    assert (tmp_path / "s" / "comparison.png").stat().st_size > 10_000
    assert read_json(tmp_path / "s" / "comparison.json")["comparisons"][0]["kind"] == "effect"


def test_a_sweep_goes_on_where_it_stopped(trained, tmp_path, monkeypatch):
    sweep = Sweep.begin(tmp_path / "s", base(), Plan(vary=("ppo.learning_rate=1e-3,2e-3,3e-3",)))
    whole = library.run_training

    def stopped(config: Any, folder: RunFolder, *words: Any, **named: Any) -> None:
        whole(config, folder, *words, **named)
        if len(trained) == 2:
            write_json(folder.summary, {"interrupted": True})
            RunFolder(folder.path / "seed_3").summary.unlink()

    monkeypatch.setattr(library, "run_training", stopped)
    assert sweep.run(report=lambda _: None) is None and len(trained) == 2

    def resumed(config: Any, folder: RunFolder, *words: Any, resume: bool, **named: Any) -> None:
        if not resume:
            whole(config, folder, *words, resume=resume, **named)
            return
        trained.append(folder.path)
        write_json(folder.summary, {"seeds_failed": [], "interrupted": False})
        summary = read_json(folder.seed(2).summary)
        write_json(folder.seed(3).summary, summary)

    monkeypatch.setattr(library, "run_training", resumed)
    found = Sweep.open(tmp_path / "s").run(report=lambda _: None)
    names = [path.name.partition("_")[0] for path in trained]
    assert names == ["00", "01", "01", "02"] and len(found.arms) == 3
    assert Sweep.open(tmp_path / "s").run(report=lambda _: None).values == found.values and len(trained) == 4


def test_a_setting_in_which_every_seed_diverges_counts(trained, tmp_path):
    told: list[str] = []
    sweep = Sweep.begin(tmp_path / "s", base(), Plan(vary=("ppo.learning_rate=1e-3,0.01",), metric="survived"))
    found = sweep.run(report=told.append)
    assert found.failed == [0, 5] and found.values[1] == [0.0] * 5
    assert told == ["setting 1: learning_rate=0.001", "setting 2: learning_rate=0.01"]


def test_the_best_of_many_is_to_be_confirmed_with_new_seeds(trained, tmp_path):
    sweep = Sweep.begin(tmp_path / "s", base(), Plan(vary=("ppo.learning_rate=1e-3,3e-3,2e-3",)))
    text = confirmation(sweep, sweep.run(report=lambda _: None))
    assert text.startswith(
        "learning_rate=0.003 has the best interquartile mean of 3, and the best of many looks better"
    )
    assert "--ppo.learning-rate 0.003" in text and "--seeds 10 --seed 5" in text
    two = Sweep.begin(tmp_path / "t", base(), PLAN)
    assert confirmation(two, two.run(report=lambda _: None)) == ""


def test_random_draws_are_written_down_before_they_are_trained(trained, tmp_path):
    plan = Plan(vary=("ppo.learning_rate=1e-4..1e-2:log",), draws=3)
    found = Sweep.begin(tmp_path / "s", base(), plan).run(report=lambda _: None)
    tried = read_json(tmp_path / "s" / "sweep.json")["tried"]
    assert len(tried) == len(found.arms) == len({each["ppo.learning_rate"] for each in tried}) == 3


def refused(plan: Plan, **changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        Sweep.begin(Path("s"), base(**changes), plan)
    assert not Path("s").exists() and "\n" not in str(error.value)
    return str(error.value)


def test_what_could_not_be_compared_is_refused_before_the_first_training():
    assert "--vary is missing" in refused(Plan())
    assert "unknown key 'ppo.gama'; did you mean 'ppo.gamma'" in refused(Plan(vary=("ppo.gama=0.9,0.99",)))
    assert "one setting alone" in refused(Plan(vary=("ppo.gamma=0.9",)))
    assert "say how often, with --draws 10" in refused(Plan(vary=("ppo.gamma=0.9..0.99",)))
    assert "is there twice" in refused(Plan(vary=("ppo.gamma=0.9,0.8", "ppo.gamma=0.7,0.6")))
    assert "--draws 5: there are 2 different settings; write --draws 2" in refused(Plan(vary=PLAN.vary, draws=5))
    assert "--vary seed: each setting has several seeds" in refused(Plan(vary=("seed=1,2",)))
    assert "--seeds 1: one seed tells no effect from variance" in refused(PLAN, seeds=1)
    assert "compare equal lengths" in refused(Plan(vary=("total_timesteps=320,640",)))
    assert "different environments (task.track 1.0 and 2.0)" in refused(Plan(vary=("task.track=1.0,2.0",)))
    assert "say how many settings it may try" in refused(Plan(vary=PLAN.vary, tuner="optuna"))
    assert "env_steps_to=400" in refused(Plan(vary=PLAN.vary, metric="env_steps_to"))
    assert "did you mean 'return'? Known: alive" in refused(Plan(vary=PLAN.vary, metric="retrun"))
    assert "--margin -1.0: must be" in refused(Plan(vary=PLAN.vary, margin=-1.0))
    assert "--evaluate 9: has no effect" in refused(Plan(vary=PLAN.vary, metric="env_steps_to=9", evaluate=9))
    assert "nothing is evaluated that could be compared" in refused(PLAN, eval_episodes=0)
    assert "--vary n_minibatches=7: n_minibatches = 7 does not" in refused(Plan(vary=("ppo.n_minibatches=1,7",)))
    assert "--vary ppo.gamma: ppo has a value" in refused(Plan(vary=("ppo=1,2", "ppo.gamma=0.9,0.8")))


def test_a_folder_has_one_sweep(trained, tmp_path):
    Sweep.begin(tmp_path / "s", base(), PLAN)
    with pytest.raises(ConfigError, match="is not empty; choose another folder, or go on with --resume"):
        Sweep.begin(tmp_path / "s", base(), PLAN)
    with pytest.raises(ConfigError, match="holds no sweep"):
        Sweep.open(tmp_path)
    write_json(tmp_path / "s" / "sweep.json", {"schema": "other"})
    with pytest.raises(ConfigError, match="expected schema 'jaxloco-sweep/1', found 'other'"):
        Sweep.open(tmp_path / "s")


def test_the_command_takes_options_of_sweep_and_training(trained, capsys, monkeypatch):
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    words = ["cartpole", "--ppo.gamma", "0.98", "--vary", "ppo.learning-rate=1e-3,2e-3", "--total-timesteps", "2048"]
    assert cli.main(["sweep", *words, "--vary=ppo.gae_lambda=0.9,0.95", "--seeds", "6", "--out", "s", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "gae_lambda=0.95" in out and out.rstrip().endswith("s") and "anew with --seeds 10 --seed 6" in out
    config = json.loads((Path("s") / "sweep.json").read_text())["config"]
    assert config["ppo"]["gamma"] == 0.98 and config["total_timesteps"] == 2048 and config["seeds"] == 6
    assert len(trained) == 4
    assert cli.main(["sweep", "--resume", "s", "--quiet"]) == 0 and len(trained) == 4
    assert cli.main(["sweep", "--resume", "s", "--draws", "3"]) == 2
    assert "leave other options out" in capsys.readouterr().err
    assert cli.main(["sweep", "--vary", "ppo.gamma=0.9,0.8"]) == 2
    assert "TASK is missing" in capsys.readouterr().err


def test_every_whole_number_of_a_range_is_as_likely():
    """Rounded, the two ends of 1..3 came half as often as 2."""
    span, rng = Span("a", 1, 3, log=False, whole=True), np.random.default_rng(0)
    drawn = [span.draw(rng) for _ in range(3000)]
    assert np.allclose(np.bincount(drawn), [0, 1000, 1000, 1000], atol=80)  # 3 standard errors


def test_an_arm_is_named_so_that_settings_of_one_name_are_told_apart():
    settings = {"task.rewards.alive.weight": 1, "task.rewards.action.weight": 2, "ppo.gamma": 0.9, "vpg.gamma": 0.8}
    assert variations.name_of(settings) == "alive.weight=1 action.weight=2 ppo.gamma=0.9 vpg.gamma=0.8"
    assert variations.name_of({"seeds": 1, "task.x.seeds": 2}) == "seeds=1 x.seeds=2"


def test_a_sweep_goes_on_in_the_folders_that_it_has(trained, tmp_path):
    Sweep.begin(tmp_path / "s", base(), PLAN).run(report=lambda _: None)
    (tmp_path / "s" / "01_learning_rate=0.002").rename(tmp_path / "s" / "01_rate=0.002")
    assert Sweep.open(tmp_path / "s").run(report=lambda _: None) is not None and len(trained) == 2


@pytest.mark.parametrize(
    "damage", [{"tried": 3}, {"tried": [3]}, {"config": 1}, {"plan": 1}, {"plan": {"vary": 1}}, {"config": {}}]
)
def test_a_damaged_sweep_is_refused_in_one_line(trained, tmp_path, damage):
    sweep = Sweep.begin(tmp_path / "s", base(), PLAN)
    write_json(sweep.file, {**read_json(sweep.file), **damage})
    with pytest.raises(ConfigError, match=r"sweep\.json"):
        Sweep.open(tmp_path / "s")


def test_the_configuration_of_a_run_is_varied(trained, capsys, monkeypatch):
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    write_json(Path("config.json"), plain_config(base(seeds=1)))
    words = ["sweep", "cartpole", "--config", "config.json", "--vary", "ppo.gamma=0.9,0.8", "--out", "s", "--quiet"]
    assert cli.main([*words, "--seeds", "5"]) == 0
    assert Sweep.open(Path("s")).base == base()
    assert cli.main(words) == 2 and "--seeds 1: one seed tells no effect" in capsys.readouterr().err
    write_json(Path("config.json"), {**plain_config(base()), "version": 99})
    assert cli.main(words) == 2 and "version is 99" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(JaxlocoError, match=re.escape(f"--tuner optuna needs it: {pip_install('train', 'tune')}")):
        tuner.propose([Choice("a", (1, 2))], [], lower_is_better=False, seed=0)


def test_optuna_proposes_where_results_were_good():
    pytest.importorskip("optuna")
    varied = [Span("a", 0.0, 1.0, log=False, whole=False), Choice("b", ([1], [2])), Span("c", 1, 64, True, True)]
    tried: list[tuple[Any, float]] = []
    for _ in range(40):
        settings = tuner.propose(varied, tried, lower_is_better=True, seed=1)
        assert settings["b"] in ([1], [2]) and isinstance(settings["c"], int)
        tried.append((settings, abs(settings["a"] - 0.3) + (settings["b"] == [1])))
    assert np.mean([abs(each["a"] - 0.3) for each, _ in tried[20:]]) < 0.15
    assert tuner.propose(varied, tried, lower_is_better=True, seed=1) == tuner.propose(
        varied, tried, lower_is_better=True, seed=1
    )


def test_a_tuned_sweep_goes_on_with_what_it_has_tried(trained, tmp_path):
    pytest.importorskip("optuna")
    plan = Plan(vary=("ppo.learning_rate=1e-4..1e-2:log",), draws=4, tuner="optuna")
    whole = Sweep.begin(tmp_path / "a", base(), plan).run(report=lambda _: None)
    sweep = Sweep.begin(tmp_path / "b", base(), plan)
    settings = sweep.settings()
    for index in range(2):
        next(settings)
        sweep._train(index, quiet=True)
    again = Sweep.open(tmp_path / "b").run(report=lambda _: None)
    assert again.values == whole.values and len(again.arms) == 4


@pytest.mark.slow
def test_a_sweep_from_the_command_line(capsys):
    """Two settings, two seeds each, a few iterations: trained, compared, and nothing to do the second time."""
    words = ["--n-envs", "4", "--ppo.n-steps", "8", "--total-timesteps", "256", "--eval-episodes", "4"]
    vary = ["--vary", "ppo.learning_rate=1e-3,2e-3", "--seeds", "2"]
    assert cli.main(["sweep", "cartpole", *words, *vary, "--out", "s", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "cannot tell: 2 seeds an arm are too few" in text and "ppo.learning_rate 0.001 → 0.002" in text
    runs = sorted(path.parent.name for path in Path("s").glob("*/summary.json"))
    assert runs == ["00_learning_rate=0.001", "01_learning_rate=0.002"]
    assert cli.main(["compare", f"s/{runs[0]}", f"s/{runs[1]}", "--figure", "none"]) == 0
    assert cli.main(["sweep", "--resume", "s", "--quiet"]) == 0
