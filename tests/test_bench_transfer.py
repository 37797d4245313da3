"""Policies on the bench's hidden motors: the arms, the robot with the fitted network, and that calls go on."""

import json

import numpy as np
import pytest
from test_actuator_network import network as fitted_network

from benchmarks import bench_transfer, common, page
from benchmarks.bench_transfer import TransferOptions
from jaxloco import library
from jaxloco.errors import JaxlocoError
from jaxloco.playback.provenance import check_provenance
from jaxloco.robot import load_robot
from jaxloco.training.run_folder import plain

FIGURES = {"survived": 0.5, "velocity_error": 0.2, "yaw_rate_error": 0.3, "survived_in_training": 1.0}


@pytest.mark.parametrize("motor", ["stiff", "elastic"])
def test_the_robot_with_the_network_has_no_friction_of_its_own(motor, tmp_path, monkeypatch):
    own, robot, fits = TransferOptions(motor=motor, runs=str(tmp_path)), load_robot("go1"), []
    monkeypatch.setattr(bench_transfer.actuator_fit, "record_all", lambda folder, *_: (folder, folder))
    monkeypatch.setattr("jaxloco.actuator_fit.fit.fit", lambda *_: fits.append(1))

    def write(_, folder):
        folder.mkdir(parents=True)
        given = {"joints": robot.joint_names, "kp": (35.0,) * 12, "kd": (0.5,) * 12, "timestep": 0.004}
        fitted_network(**given).write(folder / "network.npz")

    monkeypatch.setattr("jaxloco.actuator_fit.report.write_all", write)
    folders = [bench_transfer._robot_with_network(own) for _ in range(2)]
    assert len(fits) == 1 and folders[0] == folders[1]  # the second call finds it there
    made, joints = load_robot(str(folders[0])), robot.joint_qvel_indices
    assert not made.model.dof_frictionloss[joints].any() and not made.model.dof_damping[joints].any()
    assert made.model.dof_armature[joints] == pytest.approx(0.005 if motor == "stiff" else 0.0)
    assert robot.model.dof_frictionloss[joints].all()
    assert {joint.actuator_kinds for joint in made.joints} == {("network",)}
    check_provenance("bundle", {"robot": plain(made.facts())})  # what was trained with it can be played


def test_trainings_are_shared_between_motors_but_for_those_with_a_fitted_network():
    stiff, elastic = TransferOptions(motor="stiff"), TransferOptions(motor="elastic")
    assert bench_transfer._run("ideal_pd", 100, stiff) == bench_transfer._run("ideal_pd", 100, elastic)
    assert bench_transfer._run("network", 100, stiff) != bench_transfer._run("network", 100, elastic)
    other = TransferOptions(task="anymal-c-velocity")
    assert bench_transfer._run("ideal_pd", 100, other) != bench_transfer._run("ideal_pd", 100, stiff)


def test_each_seed_of_each_arm_is_played_and_arms_are_compared_with_the_first(tmp_path, monkeypatch):
    survived = {"network": 0.98, "ideal_pd": 0.3}

    def trained(arm, seed, own):
        folder = bench_transfer._run(arm, seed, own)
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("time/total_timesteps,rollout/ep_rew_mean\n0,1\n100,2\n")
        return folder

    def played(run, own):
        seed = int(run.name.removeprefix("seed_"))
        return {**FIGURES, "survived": survived[run.parent.name.removesuffix("_stiff")] + 0.001 * seed}

    monkeypatch.setattr(bench_transfer, "_trained", trained)
    monkeypatch.setattr(bench_transfer, "_played", played)
    out = tmp_path / "result.json"
    words = ["--arms", *survived, "--seeds", "5", "--first-seed", "0", "--total-timesteps", "100"]
    assert bench_transfer.main([*words, "--runs", str(tmp_path), "--out", str(out)]) == 0
    result = common.read_result(out)
    assert result["arms"]["ideal_pd"]["seed"] == list(range(5))
    assert result["arms"]["network"]["survived"] == pytest.approx(0.98 + 0.001 * np.arange(5))
    found = result["survived"]["ideal_pd"]
    assert (found["against"], found["verdict"]) == ("network", "effect")
    assert found["difference"] == pytest.approx(-0.68)
    assert page._transferred(result) == page.Measured("0.982; ideal_pd 0.302 (5 seeds)", True)
    assert "| ideal_pd | 0.302 | 0.200 | 0.30 to 0.30 | effect |" in page._arms(result)
    assert all((tmp_path / f"result_{metric}.png").stat().st_size > 1000 for metric in bench_transfer.METRICS)


def test_what_was_played_is_not_played_again_and_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    own = TransferOptions(runs=str(tmp_path))
    run = bench_transfer._run("ideal_pd", 100, own)
    run.mkdir(parents=True)
    (run / "bench_stiff_20_1.json").write_text(json.dumps(FIGURES))
    assert bench_transfer._played(run, own) == FIGURES
    given: list[dict] = []
    monkeypatch.setattr(library, "train", lambda config, **places: given.append(places))
    for name, content in (("config.json", {}), ("summary.json", {"interrupted": True})):
        (run / name).write_text(json.dumps(content))
    with pytest.raises(JaxlocoError, match="the same command goes on"):
        bench_transfer._trained("ideal_pd", 100, own)
    assert given == [{"out": None, "resume": run}]
    (run / "summary.json").write_text("{}")
    assert bench_transfer._trained("ideal_pd", 100, own) == run and len(given) == 1


@pytest.mark.slow
def test_on_the_bench_the_hidden_motors_move_the_robot(tmp_path):
    from jaxloco.actuator_fit.record import bench
    from jaxloco.onboard.clients.run import run_episode
    from jaxloco.playback.conditions import Conditions
    from jaxloco.playback.play import Playback

    playback = Playback.load(common.ROOT / "policies/go1-velocity/policy", Conditions(robot="go1", seconds=0.1))
    (scenario,) = playback.scenarios(1, 0)
    client = bench_transfer._on_bench("stiff", playback, scenario)
    sent = []
    run_episode(playback.policy, client, 0.1, on_step=lambda _, outputs: sent.append(outputs["joint_position_targets"]))
    rig = bench(playback.robot, "stiff", in_the_air=False, seed=scenario.seed)
    rig.data.qpos[:], rig.data.qvel[:] = scenario.qpos, scenario.qvel
    rig.motor.reset(np.asarray(playback.robot.default_ctrl), rig.data.qpos[playback.robot.joint_qpos_indices])
    for push, target in zip(scenario.pushes, sent, strict=False):
        rig.push((playback.robot.model.body("trunk").id,), push[None])
        rig.step(playback.spec.action.drive(playback.robot).offset + target, playback.robot.control_dt)
    np.testing.assert_allclose(client.record.qpos[len(sent) - 1], rig.data.qpos, atol=1e-4)  # states in float32
