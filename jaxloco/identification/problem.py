"""The least-squares problem: whitened residuals of all recordings, and their derivatives by few simulations."""

import io
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from jaxloco.cores import count_cores
from jaxloco.identification.toolbox import sysid
from jaxloco.identification.trial import Trial
from jaxloco.identification.unknowns import ALL, BODIES, PARAMETERS, Unknown, modifier
from jaxloco.robot import Robot

STEP = 1e-4
"""Step of finite differences, in widths."""

ITERATIONS = 30
"""Most iterations of a fit."""

TOLERANCE = 1e-3
"""A fit ends with a step that is shorter, relative to x in widths."""


class Problem:
    """Residuals (simulated − measured) / σ of all recordings as a function of the unknowns that are not kept nominal.

    Args:
        robot: The robot.
        trials: Its recordings.
        unknowns: All unknowns.
        sigma: Standard deviation of the noise of each channel, (C,).

    Attributes:
        parameters: The unknowns as `mujoco.sysid` has them, in widths from the nominal value.
        simulations: How many recordings have been simulated so far.
    """

    def __init__(self, robot: Robot, trials: Sequence[Trial], unknowns: Sequence[Unknown], sigma: np.ndarray) -> None:
        self._sysid = sysid()
        self.trials, self.unknowns, self.sigma = trials, unknowns, sigma
        self._joints = {name: i for i, name in enumerate(robot.joint_names)}
        self.parameters = self._sysid.ParameterDict()
        for unknown in unknowns:
            kind = PARAMETERS[unknown.kind]
            self.parameters.add(
                self._sysid.Parameter(unknown.name, 0.0, kind.lowest, kind.highest, modifier=modifier(unknown))
            )
            self.parameters[unknown.name].value = np.array([unknown.start])
        self._limbs = _limbs(trials[0].model, robot, unknowns)
        self._datas = [mujoco.MjData(trials[0].model) for _ in range(count_cores())]
        self.simulations, self.log = 0, io.StringIO()
        self._known: tuple[Any, np.ndarray] | None = None

    def keep_nominal(self, names: Sequence[str]) -> None:
        """Keep unknowns at their nominal value."""
        for name in names:
            self.parameters[name].frozen = True
            self.parameters[name].reset()

    @property
    def free(self) -> list[int]:
        """Places of the unknowns that are fitted."""
        return [i for i, unknown in enumerate(self.unknowns) if not self.parameters[unknown.name].frozen]

    @property
    def x(self) -> np.ndarray:
        """Value of each unknown, in widths, (U,)."""
        return np.array([self.parameters[unknown.name].value[0] for unknown in self.unknowns])

    def residuals(self, x: np.ndarray, parameters: Any = None) -> tuple[list[np.ndarray], list[Any], list[Any]]:
        """Return the residuals, as `mujoco.sysid.optimize` wants them.

        Args:
            x: Free unknowns, (F,), or several points at once, (F, P).
            parameters: `parameters`, or a copy.

        Returns:
            For each recording an array (M · C,) or (M · C, P), and what was simulated and measured.
        """
        parameters = self.parameters if parameters is None else parameters
        found: list[np.ndarray] = []
        for trial in self.trials:
            result = self._sysid.model_residual(
                x,
                parameters,
                build_model=lambda given, trial=trial: _model(given, trial.spec),
                traj_measured=_trajectory(self._sysid, trial),
                modify_residual=lambda *args, **kwargs: _difference(self.sigma, *args, **kwargs),
                custom_rollout=lambda trial=trial, **given: self._rollout(trial, **given),
                n_threads=len(self._datas),
                resample_true=False,
            )
            found.append(result[0])
        return found, [], []

    def residual(self, x: np.ndarray) -> np.ndarray:
        """Return the residuals of all recordings, one below the other, (R,) or (R, P)."""
        return np.concatenate(self.residuals(x)[0])

    def jacobian(self, x: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Return the derivatives by the free unknowns, (R, F).

        Limbs of a fixed base do not feel one another, so unknowns of different limbs are varied in one simulation.

        Args:
            x: Free unknowns, (F, 1).
            residual: There, (R, 1).
        """
        free = self.free
        key = x.tobytes(), tuple(free), self.sigma.tobytes()
        if self._known is not None and self._known[0] == key:  # the choice of unknowns asked for it already
            return self._known[1]
        high = np.array([PARAMETERS[self.unknowns[i].kind].highest for i in free])
        steps = np.where(x[:, 0] + STEP > high, -STEP, STEP)
        colours = _colours([self._limbs[i] for i in free])
        points = np.repeat(x, len(colours), axis=1)
        for column, members in enumerate(colours):
            points[members, column] += steps[members]
        varied = self.residual(points)
        limb = self.limb_of_rows()
        jacobian = np.zeros((len(residual), len(free)))
        for column, members in enumerate(colours):
            change = varied[:, column] - residual[:, 0]
            for place in members:
                mine = np.isin(limb, list(self._limbs[free[place]]))
                jacobian[mine, place] = change[mine] / steps[place]
        self._set(x[:, 0])
        self._known = key, jacobian
        return jacobian

    def optimize(self) -> tuple[np.ndarray, np.ndarray]:
        """Fit the free unknowns, from where they are.

        Returns:
            The residuals, (R,), and their derivatives, (R, F), at the optimum.
        """
        fitted, result = self._sysid.optimize(
            self.parameters,
            self.residuals,
            verbose=False,
            max_iters=ITERATIONS,
            xtol=TOLERANCE,
            mu_factor=10.0,
            jacobian=self.jacobian,
            output=self.log,
        )
        self._set(np.ravel(result.x))
        del fitted
        return self.residual(np.ravel(result.x)), np.asarray(result.jac)

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return residuals, (R,), and their derivatives, (R, F), where the unknowns are."""
        x = self.x[self.free]
        residual = self.residual(x)
        return residual, self.jacobian(x[:, None], residual[:, None])

    def limb_of_rows(self) -> np.ndarray:
        """Return the limb to which each residual belongs, (R,)."""
        model = self.trials[0].model
        limbs = np.array([model.dof_treeid[model.joint(name).dofadr[0]] for name in self._joints])
        rows = [np.tile(limbs[[c.joint for c in trial.channels]], len(trial.times)) for trial in self.trials]
        return np.concatenate(rows)

    def by_channel(self, residual: np.ndarray) -> list[np.ndarray]:
        """Return the residuals of each recording, (M, C)."""
        sizes = [trial.measured.size for trial in self.trials]
        parts = np.split(residual, np.cumsum(sizes)[:-1])
        return [part.reshape(trial.measured.shape) for part, trial in zip(parts, self.trials, strict=True)]

    def _set(self, x: np.ndarray) -> None:
        self.parameters.update_from_vector(x)

    def _rollout(self, trial: Trial, models: Sequence[mujoco.MjModel], param_dicts: Sequence[Any], **given: Any) -> Any:
        """Simulate a recording, as `mujoco.sysid.model_residual` wants it, and what its sensors measure."""
        delays, lags = (
            np.array([_value(parameters, kind, self.unknowns) for parameters in param_dicts]) for kind in ALL
        )
        biases = np.stack([self._biases(parameters) for parameters in param_dicts])
        self.simulations += len(models)
        simulated = trial.simulate(models, self._datas, delays, biases, lags)
        series = self._sysid.TimeSeries
        whole, states = (
            _trajectory(self._sysid, trial),
            np.zeros((len(trial.times), 1 + trial.model.nq + trial.model.nv)),
        )
        states[:, 0] = trial.times
        return [
            whole.replace(model=model, sensordata=series(trial.times, values), state=series(trial.times, states))
            for model, values in zip(models, simulated, strict=True)
        ]

    def _biases(self, parameters: Any) -> np.ndarray:
        found = np.zeros(len(self._joints))
        for unknown in self.unknowns:
            if unknown.kind == "bias":
                for name, value in unknown.values(float(parameters[unknown.name].value[0])).items():
                    found[self._joints[name]] = value
        return found


def _value(parameters: Any, kind: str, unknowns: Sequence[Unknown]) -> float:
    """Return the value of an unknown without members; 0 if there is none."""
    found = [unknown for unknown in unknowns if unknown.kind == kind]
    return found[0].values(float(parameters[found[0].name].value[0]))[""] if found else 0.0


def _model(parameters: Any, spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Return the model with all unknowns, those that are kept nominal too."""
    for parameter in parameters.values():
        parameter.apply_modifier(spec)
    return spec.compile()


def _trajectory(toolbox: Any, trial: Trial) -> Any:
    """Return a recording as `mujoco.sysid` has it; `Trial` knows the commands, and the state that it begins with."""
    times, size = trial.times[:2], mujoco.mj_stateSize(trial.model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
    return toolbox.SystemTrajectory(
        model=trial.model,
        control=toolbox.TimeSeries(times, np.zeros((2, trial.model.nu))),
        sensordata=toolbox.TimeSeries(trial.times, trial.measured),
        initial_state=np.zeros(size),
        state=None,
    )


def _difference(
    sigma: np.ndarray, parameters: Any, simulated: Any, measured: Any, *rest: Any, **given: Any
) -> tuple[np.ndarray, Any, Any]:
    """Return the whitened residuals, as `mujoco.sysid.model_residual` wants them."""
    return (simulated.data - measured.data) / sigma, measured, measured


def _limbs(model: mujoco.MjModel, robot: Robot, unknowns: Sequence[Unknown]) -> list[frozenset[int]]:
    """Return the limbs, trees of the fixed base, that each unknown has an effect on."""
    everything = frozenset(int(tree) for tree in model.dof_treeid)
    found = []
    for unknown in unknowns:
        if unknown.kind in BODIES:
            trees = {int(model.body_treeid[model.body(name).id]) for name in unknown.members}
        else:
            trees = {int(model.dof_treeid[model.joint(name).dofadr[0]]) for name in unknown.members}
        found.append(frozenset(trees) or everything)
    return found


def _colours(limbs: Sequence[frozenset[int]]) -> list[list[int]]:
    """Return groups of unknowns that have no limb in common.

    >>> _colours([frozenset({0, 1}), frozenset({0}), frozenset({1})])
    [[0], [1, 2]]
    """
    groups: list[list[int]] = []
    for place, mine in enumerate(limbs):
        free = next((group for group in groups if not any(limbs[other] & mine for other in group)), None)
        if free is None:
            groups.append([place])
        else:
            free.append(place)
    return groups
