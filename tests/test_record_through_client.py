"""Motors of a real robot are recorded through its client: rehearsed with plain MuJoCo behind the robot's messages."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxloco import cli
from jaxloco.actuator_fit.excitation import Excitation, excite
from jaxloco.actuator_fit.on_robot import connect, record_through
from jaxloco.errors import ConfigError, ConnectionLostError
from jaxloco.logs.recording import read_csv
from jaxloco.onboard.clients.joints import JointClient
from jaxloco.rehearsal import simulated
from jaxloco.robot import Robot, load_robot

RATE = 500.0


@pytest.fixture(scope="module")
def go2() -> Robot:
    return load_robot("go2")


def hanging(go2: Robot, client: str = "unitree-go2", **changes: Any) -> tuple[JointClient, Any]:
    transport = simulated(client, go2, {}, hangs=True)
    for name, value in changes.items():
        setattr(transport, name, value(transport))
    return connect(go2, client, {"transport": transport}, RATE), transport


def chirp(go2: Robot, seconds: float = 1.0) -> Excitation:
    return excite(go2, "chirp", seconds, RATE, 0, 0.5)


def gives_way(go2: Robot, transport: Any) -> bool:
    return not transport.body.target[2].any() and bool((transport.body.target[3] > 0.0).all())


@pytest.mark.parametrize("name", ["unitree-go2", "ros2"])
def test_what_is_sent_moves_the_joint_of_that_name_and_comes_back_with_its_torque(go2, name):
    client, transport = hanging(go2, name)
    excitation = chirp(go2)
    found = record_through(client, go2, excitation, "chirp")
    assert gives_way(go2, transport)
    assert found.joints == go2.joint_names and found.rate == pytest.approx(RATE, rel=1e-3)
    np.testing.assert_array_equal(found.target, excitation.targets)
    # The torque of a message is that of the last step of the physics, 2 ms before, with the target of then.
    kp, kd = (np.array([getattr(joint, gain) for joint in go2.joints]) for gain in ("kp", "kd"))
    limit = np.array([joint.torque_limit for joint in go2.joints])
    error = found.target[:-1] - found.position[:-1]
    ideal = np.clip(kp * error - kd * found.velocity[:-1], -limit, limit)
    np.testing.assert_allclose(found.torque[1:], ideal, atol=0.02 * limit.max())
    assert (ideal.std(axis=0) > 2.0).all()  # so that a joint in another's place would show


def test_the_first_target_is_approached_slowly(go2):
    client, transport = hanging(go2)
    sent: list[np.ndarray] = []
    take = transport.take

    def watch(message: Any) -> None:
        take(message)
        sent.append(transport.body.target[0].copy())

    transport.take = watch
    record_through(client, go2, chirp(go2, 0.2), "chirp")
    way = np.array(sent[: -int(0.2 * RATE) - 1])
    assert len(way) > 10 and np.abs(np.diff(way, axis=0)).max() <= 0.7 / RATE + 1e-9


def test_half_the_strength_is_half_the_way(go2):
    full, half = (excite(go2, "chirp", 1.0, RATE, 0, strength).targets for strength in (1.0, 0.5))
    np.testing.assert_allclose(half - go2.default_ctrl, 0.5 * (full - go2.default_ctrl), atol=1e-9)


def test_messages_at_half_the_rate_are_a_row_each(go2):
    class Slow:
        """A robot that sends every 4 ms, and is driven every 2."""

        def __init__(self, own: Any) -> None:
            self._own, self._kept = own, own.latest()

        def latest(self) -> Any:
            new = self._own.latest()
            if new.tick % 4 == 0:
                self._kept = new
            return self._kept

        def __getattr__(self, name: str) -> Any:
            return getattr(self._own, name)

    transport = simulated("unitree-go2", go2, {}, hangs=True)
    client = connect(go2, "unitree-go2", {"transport": Slow(transport)}, RATE)
    found = record_through(client, go2, chirp(go2, 0.4), "chirp")
    assert found.rate == pytest.approx(RATE / 2, rel=1e-3)
    assert len(found.command_time) == len(found.target) == 200 and len(found.time) == 100


def test_a_tick_that_is_late_is_not_waited_for_and_not_caught_up(go2, monkeypatch):
    """Time passes at each look at the clock, as it does outside of simulations; a wait is never negative."""
    client, transport = hanging(go2)
    waits: list[float] = []
    clock, sleep, slow = transport.clock, transport.sleep, iter(range(10**6))

    def ticking() -> float:
        sleep(0.01 if next(slow) % 100 == 99 else 1e-5)
        return clock()

    def waited(seconds: float) -> None:
        waits.append(seconds)
        sleep(max(seconds, 0.0))

    monkeypatch.setattr(client, "clock", ticking)
    monkeypatch.setattr(client, "sleep", waited)
    found = record_through(client, go2, chirp(go2, 0.5), "chirp")
    assert min(waits) >= 0.0 and len(found.command_time) == 250
    intervals = np.diff(found.command_time)
    assert intervals.max() > 0.009 and (intervals > 0.0015).mean() > 0.95  # without a burst after a late one


def frozen_after(ticks: int, **fields: Any) -> Any:
    """Messages that stop, or say something else, after so many."""

    def made(transport: Any) -> Any:
        latest, kept = transport.latest, list[Any]()

        def newest() -> Any:
            kept.append(latest())
            if len(kept) <= ticks:
                return kept[-1]
            return SimpleNamespace(**{**vars(kept[ticks]), **fields})

        return newest

    return made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no new message for 0.1 s"),
        ({"wireless_remote": [0, 0, 8, 0, *[0] * 36]}, "the stop button is pressed"),
        ({"motor_state": None}, "cannot be read"),
    ],
    ids=["silence", "stop button", "no motors"],
)
def test_a_robot_that_stops_to_answer_gives_way(go2, fields, message):
    reach = chirp(go2).targets[0] - go2.default_ctrl
    approach = int(np.abs(reach).max() / 0.7 * RATE)
    client, transport = hanging(go2, latest=frozen_after(approach + 60, **fields))
    began = transport.clock()
    with pytest.raises(ConnectionLostError, match=message):
        record_through(client, go2, chirp(go2, 2.0), "chirp")
    assert gives_way(go2, transport)
    assert transport.clock() - began < (approach + 60) / RATE + client.patience + 0.1


def test_an_end_from_outside_leaves_damping_behind(go2, monkeypatch):
    client, transport = hanging(go2)
    sleep = transport.sleep

    def interrupted(seconds: float) -> None:
        sleep(seconds)
        if transport.sent == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(client, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record_through(client, go2, chirp(go2), "chirp")
    assert gives_way(go2, transport)


def test_the_command_records_what_the_fit_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "logs"
    words = (
        "--robot go2 --client unitree-go2 --simulated --kinds step chirp --recordings 1 --seconds 0.5 --strength 0.5"
    )
    assert cli.main(["actuator", "record", str(folder), *words.split()]) == 0
    assert "fit a network: jaxloco actuator fit" in capsys.readouterr().out
    for kind in ("step", "chirp"):
        found = read_csv(folder / f"{kind}_000.csv")
        assert found.torque is not None and found.kp is not None and len(found.time) == 250


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--robot go2 --client unitree-go3", "unknown client 'unitree-go3'; did you mean 'unitree-go2'?"),
        ("--robot go2 --client unitree-g1 --simulated", "unitree-g1 is the robot 'unitree_g1', not 'go2'"),
        ("--robot go2 --simulated", "--option and --simulated are for --client"),
        ("--robot upkie --client ros2 --simulated", "has no position targets"),
        ("--robot go2 --client ros2 --simulated --strength 2", "strength"),
    ],
)
def test_what_does_not_fit_is_said_and_leaves_no_folder(tmp_path, capsys, words, message):
    try:
        status = cli.main(["actuator", "record", str(tmp_path / "logs"), *words.split()])
    except SystemExit as end:  # of the options
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_a_client_of_another_robot_is_refused(go2):
    with pytest.raises(ConfigError, match="unitree-g1"):
        connect(go2, "unitree-g1", {}, RATE)
