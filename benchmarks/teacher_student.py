"""The cart and pole whose velocities are hidden, its motor 60 ms late: students of a policy that sees all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import common
from benchmarks.memory_probe import DELAY, LAYERS, Hidden

NAME = "teacher_student"
SHARE = 0.1
"""Environment steps of a student, as a share of its teacher's."""

STUDENTS = {
    "tcn": ("tcn", 1),
    "gru": ("gru", 1),
    "lstm": ("lstm", 1),
    "history of 8": ("mlp", 8),
    "memoryless": ("mlp", 1),
}
"""What it is called → kind of the actor, and the frames that it sees at a time."""

ALONE = "gru, PPO without a teacher"

OPTIONS = common.SeedOptions(seeds=5, total_timesteps=400_000)


def main(arguments: Sequence[str]) -> int:
    """Measure what students learn of a teacher in a tenth of its steps: teacher-student [options]."""
    return common.command(NAME, OPTIONS, arguments, main.__doc__, run, show)


def run(own: common.SeedOptions) -> dict[str, Any]:
    """Train a teacher, several seeds of each student, and as many steps without a teacher; plain JSON values."""
    from jaxloco.tasks import recipe

    lesson, taught = _teacher(own)
    steps = max(1, round(SHARE * own.total_timesteps))
    returns = {name: _student(own, lesson, steps, *kind) for name, kind in STUDENTS.items()}
    returns[ALONE] = _alone(own, steps)
    return {
        **common.ran_with(recipe("cartpole")),
        "delay_s": DELAY,
        "teacher_steps": own.total_timesteps,
        "student_steps": steps,
        "teacher_return": taught,
        "returns": returns,
        "of_teacher": {name: sum(values) / len(values) / taught for name, values in returns.items()},
    }


def _teacher(own: common.SeedOptions) -> tuple[Any, float]:
    """Train a policy that sees all; it and its mean return, of 500."""
    import jax

    from jaxloco.learning.distillation import Teacher
    from jaxloco.tasks import recipe
    from jaxloco.training.evaluation import evaluate
    from jaxloco.training.teachers import TeacherRun

    task = Hidden(told=True, frames=4)
    config = replace(recipe("cartpole"), task=task, seed=own.first_seed, total_timesteps=own.total_timesteps)
    env = task.spec().build("native")
    agent, state = _trained(env, config)
    learner = jax.device_get(state.learner)
    teacher = Teacher(agent.networks, learner.params, learner.normalizers, config.algorithm.observation_clip)
    spec = task.spec()
    lesson = TeacherRun(teacher, spec.observations["actor"], spec.action.outputs, spec.action.pipeline)
    played = evaluate(env, agent, state, 100, 0)
    assert played is not None
    return lesson, float(played.returns.mean())


def _student(own: common.SeedOptions, lesson: Any, steps: int, kind: str, frames: int) -> list[float]:
    """Train all seeds of one kind of student in one program; the mean return of each without noise, of 500."""
    from jaxloco.learning.distillation import DistillationConfig
    from jaxloco.training.teachers import with_teacher

    algorithm = DistillationConfig(n_epochs=10, n_minibatches=8, learning_rate=2e-3, noise_std=0.1)
    config = replace(_config(own, steps, kind, frames), algorithm=algorithm)
    env = with_teacher(config.task.spec(), lesson).build("native")
    return common.mean_returns(env, *_trained(env, config, lesson.teacher))


def _alone(own: common.SeedOptions, steps: int) -> list[float]:
    config = _config(own, steps, "gru", 1)
    env: Any = config.task.spec().build("native")
    return common.mean_returns(env, *_trained(env, config))


def _config(own: common.SeedOptions, steps: int, kind: str, frames: int) -> Any:
    from jaxloco.tasks import recipe

    base = recipe("cartpole")
    network = replace(base.network, kind=kind, rnn_hidden_size=32, tcn=LAYERS)
    return replace(
        base,
        task=Hidden(frames=frames),
        network=network,
        seeds=own.seeds,
        seed=own.first_seed,
        total_timesteps=steps,
    )


def _trained(env: Any, config: Any, teacher: Any = None) -> tuple[Any, Any]:
    from jaxloco.training import loop
    from jaxloco.training.program import compile_program

    agent = loop.make_agent(env, config, teacher)
    program = compile_program(env, agent, config)
    return agent, program.iterate(program.initial_state, config.iterations, config.iterations)[0]


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [("the teacher", f"{result['teacher_return']:.0f}", "1.00", f"{result['teacher_steps']:,}")]
    for name, values in result["returns"].items():
        mean = f"{sum(values) / len(values):.0f} ({min(values):.0f} to {max(values):.0f})"
        rows.append((name, mean, f"{result['of_teacher'][name]:.2f}", f"{result['student_steps']:,}"))
    return common.table(("policy", "return of 500", "÷ the teacher's", "env steps"), rows)
