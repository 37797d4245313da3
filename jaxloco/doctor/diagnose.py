"""The doctor: a robot folder, an MJCF or a URDF in, a list of findings out."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.doctor.engine_checks import Problem, unsupported
from jaxloco.doctor.figures import Doubt, doubts, motor_doubts
from jaxloco.doctor.findings import Finding, Severity
from jaxloco.doctor.model_checks import check_model, check_ranges
from jaxloco.doctor.xml_lines import Element, read_xml
from jaxloco.errors import JaxlocoError, RobotError
from jaxloco.loops import looped
from jaxloco.model_import.draft import Notes, few
from jaxloco.model_import.new_robot import draft_robot
from jaxloco.model_import.reading import read_model
from jaxloco.model_import.sources import read_source
from jaxloco.model_import.standing import STANDING_SECONDS, Stance, fault, on_the_floor, standing_poses, stands
from jaxloco.physics.motors import corners, motors_of
from jaxloco.robot import Joint, Robot, coupled_joints, expanded, load_robot, named_folder, robot_problems
from jaxloco.robot.entries import resolve
from jaxloco.symmetry import Mirror, foot_mirror, joint_mirror, side_pattern
from jaxloco.text_files import read_text
from jaxloco.toml_schema import FILE, Where, line_of, read_toml

NAMES = {"mjx": "MJX", "warp": "MJX-Warp"}
"""Engines that lack something."""
_ALIKE = ["kp", "kd", "torque_limit", "velocity_limit", "corner_velocity", "armature", "damping", "frictionloss"]
"""Figures that a joint has in common with its mirror image."""
_MIRRORED = 2e-3
"""Distance of a foot from the mirror image of its partner that is not reported, m."""
FOOT_GAP = 0.02
"""Distance of the lowest foot from the floor in the default pose that is not reported, m."""

WEAKEST, STRONGEST = 1.0, 30.0
"""Gravity of the places that a robot may be meant for, m/s²: the Moon has 1.6, Jupiter 25."""


def diagnose(path: str | Path) -> list[Finding]:
    """Examine a robot.

    Args:
        path: A robot folder, its robot.toml, an MJCF or a URDF, in this repository or anywhere else; or the name of a
            robot that comes with jaxloco or an installed package, or `module:NAME` of one.

    Returns:
        What to change, errors first, notes last; empty for a robot in good health.

    Raises:
        RobotError: There is nothing at `path` that could be a robot.
    """
    place = named_folder(str(path)) or expanded(path)
    if place.name == "robot.toml":
        place = place.parent
    if place.is_dir():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of guesses, which are among the findings
            found = _diagnose_folder(place)
    elif place.is_file():
        found = _diagnose_file(place)
    else:
        raise RobotError(f"{path}: no such folder or file; expected a robot folder, an MJCF (.xml) or a URDF (.urdf)")
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda finding: ("error", "warning", "note").index(finding.severity))


def _broken(found: Sequence[Finding]) -> bool:
    return any(finding.severity == "error" for finding in found)


# A model file


def _diagnose_file(path: Path) -> list[Finding]:
    try:
        root = read_source(path)
    except RobotError as error:
        return [_from_error(error, path)]
    found = check_model(root, bare=True)
    found += _compiled_findings(path, root, _BARE_FIXES, broken=_broken(found))
    if _broken(found):
        return found
    fix = f"make a robot folder from it: jaxloco new-robot {path} FOLDER; then: jaxloco doctor FOLDER"
    found.append(
        Finding("warning", "all", path, None, "a model file alone is not yet a robot with gains and feet", fix)
    )
    try:
        found += draft_robot(path, path.stem).notes.findings
    except RobotError as error:
        found[-1] = replace(_from_error(error, path), severity="warning")
    return found


def _compiled_findings(path: Path, root: Element, fixes: Mapping[str, str], *, broken: bool) -> list[Finding]:
    """Return what is wrong with a model as MuJoCo compiles it; if it cannot, that, or a note if the cause is known."""
    try:
        _, model = read_model(path, root, Notes(path))
    except RobotError as error:
        cause = _from_error(error, path)
        match = re.search(r"Element name '([^']+)'", cause.problem)
        named = (e for e in root.walk() if match is not None and e.attributes.get("name") == match[1])
        if cause.line is None and (element := next(named, None)) is not None:  # the one that MuJoCo names
            cause = replace(cause, file=element.file, line=element.line)
        if not broken:
            return [cause]
        problem = f"{cause.problem}; so what each engine can simulate is not examined"
        return [replace(cause, severity="note", problem=problem, fix="correct the errors above first")]
    return [*check_ranges(model, root), *_engine_findings(model, root, "", fixes)]


def _from_error(error: Exception, file: Path) -> Finding:
    """Split a message "file, line N: problem; fix" of ours or MuJoCo's into a finding."""
    text = " ".join(str(error).split())
    match = re.match(r"(?P<file>[^:]+?)(?:, line (?P<line>\d+))?: (?P<rest>.*)", text)
    named = Path(match["file"]) if match else None
    if match and named is not None and (named.is_file() or named == file or named.suffix in (".toml", ".xml")):
        line, text = int(match["line"]) if match["line"] else None, match["rest"]
    else:
        named, line = file, None
    if line is None and (found := re.search(r"\bline (\d+)", text)):
        line = int(found[1])
    verbs = "add|write|remove|rename|give|take|install|correct|create|make|widen|use|Add|Write|Did"
    match = re.search(rf"(?:[;.,] )(?=(?:{verbs})\b)", text) or re.search(r"[;,] (?=expected\b)", text)
    problem, fix = (text[: match.start()], text[match.end() :]) if match else (text, "correct that")
    return Finding("error", "all", named, line, problem, fix)


# Engines


def _engine_findings(model: mujoco.MjModel, root: Element, where: str, fixes: Mapping[str, str] = {}) -> list[Finding]:
    """Return what MJX and MJX-Warp lack; where `fixes` has a word on a kind of element, nothing needs be done."""
    found = []
    for engine in NAMES:
        problems = list(unsupported(model, engine))
        pairs = [problem for problem in problems if problem[0] == "geom"]
        if "geom" in fixes and len(pairs) > 1:
            text = f"{where}{len(pairs)} pairs of shapes: not supported by {NAMES[engine]}"
            found.append(Finding("note", engine, root.file, root.line, text, fixes["geom"]))
            problems = [problem for problem in problems if problem not in pairs]
        for problem in problems:
            element = _element_of(problem, root)
            severity: Severity = "note" if problem[0] in fixes else "warning"
            fix = {**_FIXES, **fixes}.get(problem[0], "change or remove it, or train with --physics native")
            text = f"{where}{problem[2]}: not supported by {NAMES[engine]}"
            found.append(Finding(severity, engine, element.file, element.line, text, fix))
    return found


_FIXES = {
    "geom": (
        "give one of them another shape (capsule, sphere or box), or take the pair out of <contact>; or train with "
        "--physics native"
    ),
    "sensor": "remove the sensor, jaxloco adds those that it needs; or train with --physics native",
    "actuator": "remove it: actuators are made from robot.toml",
}
_BARE_FIXES = {
    "geom": "leave them: `jaxloco new-robot` lets only the feet touch the floor, and nothing else",
    "sensor": "leave it: `jaxloco new-robot` drops it, and jaxloco adds the sensors that it needs",
    "actuator": "leave it: `jaxloco new-robot` makes a servo of it",
}
"""Note on a model that is not yet in a robot folder."""


def _element_of(problem: Problem, root: Element) -> Element:
    """Return the element that a problem is about, or the one around where it would be."""
    kind, name, _ = problem
    if kind == "option":
        return next(root.walk("option"), root)
    named = (element for element in root.walk() if name and element.attributes.get("name") == name)
    return next((e for e in named if kind in (e.tag, getattr(e.parent, "tag", ""))), root)


# A robot folder


def _diagnose_folder(folder: Path) -> list[Finding]:
    toml = folder / "robot.toml"
    if not toml.is_file():
        models = sorted([*folder.glob("*.urdf"), *folder.glob("*.xml")])
        model = models[0] if models else "MODEL"
        fix = f"make it from the model: jaxloco new-robot {model} FOLDER"
        found = [Finding("error", "all", toml, None, "no such file", fix)]
        return found + [finding for file in models[:1] for finding in _diagnose_file(file)]
    errors = [_from_error(error, toml) for error in robot_problems(folder)]
    try:
        text = read_text(toml, RobotError)
    except RobotError:  # which is among the errors
        return errors
    found = _once_per_line([*errors, *_open_points(toml, text)])
    model_file = _model_file(toml)
    if model_file is None:
        return found
    try:
        root = read_xml(model_file)
        in_text = check_model(root)
    except RobotError as error:
        return [*(f for f in found if f.file != model_file), _from_error(error, model_file)]
    if _broken(in_text):  # these know their lines
        found = [finding for finding in found if finding.file != model_file]
    found += in_text
    if _broken(found):
        return [*found, *_compiled_findings(model_file, root, {}, broken=True)]
    robot = load_robot(folder)
    found += [
        *check_ranges(robot.model, root),
        *_passive_findings(robot, root),
        *_weight_findings(robot, root),
        *_Checks(robot, toml, text).all(),
    ]
    for variant in (None, *read_toml(toml, RobotError).data.get("variants", {})):
        model = robot.model if variant is None else load_robot(folder, variant).model
        found += _engine_findings(model, root, f"variant {variant}: " if variant else "")
    return found


def _model_file(toml: Path) -> Path | None:
    """Return the model that a robot.toml names; None if it names none, or none that is there."""
    try:
        model = read_toml(toml, RobotError).data["robot"]["model"]
        return toml.parent / model if (toml.parent / model).is_file() else None
    except (RobotError, KeyError, TypeError, ValueError, OSError):  # which is among the errors
        return None


def _once_per_line(found: Sequence[Finding]) -> list[Finding]:
    """Drop what checks say about a line of a robot.toml that has an error, but for the last such error."""
    errors = {
        (finding.file, finding.line or 0): finding
        for finding in found
        if finding.severity == "error" and finding.line and finding.file.suffix == ".toml"
    }

    def counts(finding: Finding) -> bool:
        return finding.engine != "all" or errors.get((finding.file, finding.line or 0), finding) == finding

    return list(dict.fromkeys(filter(counts, found)))


def _open_points(toml: Path, text: str) -> Iterator[Finding]:
    """Yield the lines that `jaxloco new-robot` left open, or guessed; joints without a group together."""
    alone: dict[str, list[tuple[int, str]]] = {}
    groups = []
    for number, line in enumerate(text.splitlines(), 1):
        value, mark, guess = line.partition("# guess: ")
        key, _, name = map(str.strip, value.partition("="))
        if mark and key != "name":
            fix = "look whether the robot can stand so; then remove the comment"
            yield Finding("warning", "all", toml, number, f"guessed: {value.strip()}: {guess}", fix)
        elif mark and "*" in name:
            groups.append((number, f"{guess} of {name}"))
        elif mark:
            alone.setdefault(guess, []).append((number, name.strip('"')))
        value, mark, task = line.partition("# TODO")
        if mark:
            problem = f"left open: {value.strip('# ') or 'this section'}"
            fix = f"{task.strip(' :') or 'check it'}; then remove the TODO"
            yield Finding("warning", "all", toml, number, problem, fix)
    single = [(joints[0][0], f"{guess} of {few(name for _, name in joints)}") for guess, joints in alone.items()]
    for number, problem in sorted(single + groups):
        fix = "write the robot's own; then remove the comment"
        yield Finding("warning", "all", toml, number, f"guessed: {problem}", fix)


def _passive_findings(robot: Robot, root: Element) -> Iterator[Finding]:
    """Yield the joints of a robot with feet that have neither an actuator nor a constraint."""
    model = robot.model
    coupled, in_loops = coupled_joints(model), looped(model, robot.default_qpos)
    for i in range(model.njnt if robot.feet else 0):
        name, kind = model.joint(i).name, mujoco.mjtJoint(model.jnt_type[i])
        held = model.jnt_stiffness[i].any() or name in coupled or in_loops[model.jnt_dofadr[i]]
        if kind == mujoco.mjtJoint.mjJNT_FREE or name in robot.joint_names or held:
            continue
        element = root.find("joint", name) or root
        problem = f"joint {name!r} is a hinge or slide without an actuator: it swings freely"
        fix = f'add [[joints]] with name = "{name}" to robot.toml; or give it a stiffness, if a spring holds it'
        if kind == mujoco.mjtJoint.mjJNT_BALL:
            problem = f"joint {name!r} is a ball joint, which no actuator of jaxloco can drive: it swings freely"
            fix = "write up to three hinges in its place, each with a name; or a stiffness, if a spring holds it"
        yield Finding("error", "all", element.file, element.line, problem, fix)


def _weight_findings(robot: Robot, root: Element) -> Iterator[Finding]:
    """Yield what takes weight from a robot that is free: gravity that is off or sideways, what holds its bodies."""
    model = robot.model
    if robot.base_body is None:
        return

    def warn(tag: str, problem: str, fix: str) -> Finding:
        element = next(root.walk(tag), root)
        return Finding("warning", "all", element.file, element.line, problem, fix)

    gravity, off = model.opt.gravity, model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    if off or gravity[2] >= 0.0 or np.abs(gravity[:2]).max() > 0.1 * -gravity[2]:
        found = "is switched off" if off else f"is {np.round(gravity, 3).tolist()} m/s²"
        fix = 'write <option gravity="0 0 -9.81"/>, and no <flag gravity="disable"/>; z points up'
        yield warn("flag" if off else "option", f"gravity {found}, so the robot does not stand on its feet", fix)
    elif not WEAKEST <= -gravity[2] <= STRONGEST:
        problem = f"gravity is {np.round(gravity, 3).tolist()} m/s², and on Earth [0, 0, -9.81]"
        yield warn("option", problem, 'check the unit: write <option gravity="0 0 -9.81"/>, in m/s²')
    light = [model.body(i).name for i in np.flatnonzero(model.body_gravcomp)]
    if light:
        names = ", ".join(map(repr, light[:4]))
        yield warn("body", f"gravcomp takes weight from {len(light)} bodies, such as {names}", "remove gravcomp")
    welds = np.isin(model.eq_type, [int(mujoco.mjtEq.mjEQ_WELD), int(mujoco.mjtEq.mjEQ_CONNECT)])
    for i in np.flatnonzero(welds & (model.eq_active0 != 0)):
        bodies = [int(model.eq_obj1id[i]), int(model.eq_obj2id[i])]
        if model.eq_objtype[i] == int(mujoco.mjtObj.mjOBJ_SITE):
            bodies = [int(model.site_bodyid[site]) for site in bodies]
        if 0 in [model.body_weldid[body] for body in bodies]:
            name = model.body(max(bodies)).name
            yield warn(
                "equality", f"an <equality> holds body {name!r} to the world", "remove it: the robot hangs on it"
            )


def _patterns(joints: Sequence[str]) -> list[str]:
    """Return what joints are called but for their sides; one that has no mirror image among them by its name."""
    groups: dict[str, list[str]] = {}
    for joint in joints:
        groups.setdefault(side_pattern(joint), []).append(joint)
    return [pattern if len(names) > 1 else names[0] for pattern, names in groups.items()]


def _same(one: float, other: float) -> bool:
    return one == other or abs(one - other) <= 1e-3 * max(abs(one), abs(other))


class _Checks:
    """Checks of a robot that loads; each method yields what is wrong, with the lines of robot.toml to change."""

    def __init__(self, robot: Robot, toml: Path, text: str) -> None:
        names = (*robot.joint_names, *robot.locked)
        self.entries = {
            entry.name: entry for entry in resolve(read_toml(toml, RobotError).data.get("joints", []), names)
        }
        self.robot, self.toml, self.text = robot, toml, text

    def all(self) -> Iterator[Finding]:
        """Yield all that is wrong."""
        yield from self.joints()
        yield from self.doubted()
        yield from self.actuators()
        if self.robot.base_body is None:
            return
        yield from self.feet()
        yield from self.curves()
        yield from self.self_contacts()
        if self.robot.imu_site is None:
            fix = 'add a <site name="imu"/> to the base in the MJCF, and imu_site = "imu"'
            problem = "no IMU site: the IMU is taken to be in the base's origin"
            yield self.found("warning", ("robot", "base_body"), problem, fix)
            return
        model, where = self.robot.model, int(self.robot.model.site(self.robot.imu_site).bodyid[0])
        if model.body_weldid[where] != model.body_weldid[model.body(self.robot.base_body).id]:
            problem = (
                f"the IMU site is on {model.body(where).name!r}, which joints move against the base; it is taken to"
            )
            fix = "put the site on the base, or name the body with the IMU as base_body"
            yield self.found("warning", ("robot", "imu_site"), f"{problem} be fixed to the base", fix)

    def found(self, severity: Severity, where: Where | int | None, problem: str, fix: str) -> Finding:
        """Return a finding about a key of robot.toml, or a line of it."""
        line = line_of(self.text, where) if isinstance(where, tuple) else where
        return Finding(severity, "all", self.toml, line, problem, fix)

    def place(self, joint: str, key: str) -> Where:
        """Return a key of a joint, or the entry to write it in."""
        return ("joints", self.entries[joint].source(key), key)

    def of_joints(self, names: Sequence[str], key: str, problem: str, fix: str, severity: Severity) -> Finding:
        """Return one finding about all these joints, which differ by their sides at most or have much in common."""
        who = f"joint {names[0]!r}" if len(names) == 1 else f"{len(names)} joints, {few(_patterns(names))}"
        return self.found(severity, self.place(names[0], key), f"{who}: {problem}", fix)

    def joints(self) -> Iterator[Finding]:
        """Yield what motors lack: a finding for all joints that lack the same, and one for each group with guesses."""
        lacking: dict[tuple[str, str, str, Severity], list[str]] = {}
        coupled = coupled_joints(self.robot.model)

        def lack(joint: str, key: str, problem: str, fix: str, severity: Severity = "warning") -> None:
            lacking.setdefault((key, problem, fix, severity), []).append(joint)

        for joint in self.robot.joints:
            name = joint.name
            endless = not np.isfinite([joint.lower, joint.upper]).all()
            if endless and self.robot.feet and joint.control == "position":
                fix = 'write range="lower upper" at the joint in the MJCF, in the unit of its <compiler angle>'
                lack(name, "name", "no range, which position targets are held to", fix, "error")
            if name in coupled:
                problem = "an <equality> couples it to another joint, and a motor drives it too"
                lack(name, "name", problem, "remove its [[joints]]; or the <equality>, if it has a motor of its own")
            if joint.armature == 0.0:
                fix = (
                    "write armature = rotor inertia × gear ratio², kg m²; light joints without it make simulation stiff"
                )
                lack(name, "armature", "no armature", fix)
            if joint.control == "position" and joint.kp == 0.0:
                lack(name, "kp", "no position gain", "write kp, N m/rad; 2 torque_limit / rad is a start")
            if joint.damping == 0.0 and joint.kd == 0.0 and joint.control != "torque":
                lack(name, "kd", "no damping, neither its own nor a gain", "write kd, N m s/rad; kp / 50 is a start")
            if keys := self.robot.guessed.get(name):
                guess = ", ".join(f"{key} = {getattr(joint, key):g}" for key in keys)
                lack(name, "name", f"missing, so guessed: {guess}", "write the robot's own")
        for (key, problem, fix, severity), names in lacking.items():
            yield self.of_joints(names, key, problem, fix, severity)

    def doubted(self) -> Iterator[Finding]:
        """Yield the figures that no motor has: one finding for all joints with the same."""
        weight = 9.81 * float(self.robot.model.body_mass.sum())
        found: dict[Doubt, list[str]] = {}
        for joint in self.robot.joints:
            for doubt in (*doubts(joint, weight), *motor_doubts(joint)):
                found.setdefault(doubt, []).append(joint.name)
        for (key, problem, fix), names in found.items():
            yield self.of_joints(names, key, problem, fix, "warning")

    def actuators(self) -> Iterator[Finding]:
        """Yield what is wrong with the actuators that robot.toml names, or a note of which they are."""
        driven = [joint for joint in self.robot.joints if joint.actuator]
        try:
            motors_of(self.robot)
        except JaxlocoError as error:
            first = self.at_fault(driven or self.robot.joints, str(error)).name
            problem, _, fix = str(error).removeprefix(f"{self.toml}: ").partition("; ")
            yield self.found("error", self.place(first, "actuator"), problem, fix or "see docs/robots.md, Motors")
            return
        groups: dict[tuple[str, ...], list[str]] = {}
        for joint in driven:
            groups.setdefault(joint.actuator_kinds, []).append(joint.name)
        for kinds, names in groups.items():
            problem = f"actuators in training and evaluation: {', '.join(kinds)}"
            yield self.of_joints(names, "actuator", problem, "nothing to do; plain MuJoCo has ideal servos", "note")

    def at_fault(self, joints: Sequence[Joint], error: str) -> Joint:
        """Return which of some joints an error is about: one that it names, or whose actuator's file it names."""

        def files(joint: Joint) -> list[str]:
            named = [dict(part).get(FILE) for part in joint.actuator or ()]
            return [str(self.robot.folder / str(file)) for file in named if file]

        named = (joint for joint in joints if repr(joint.name) in error)
        with_file = (joint for joint in joints if any(file in error for file in files(joint)))
        return next(named, None) or next(with_file, None) or joints[0]

    def curves(self) -> Iterator[Finding]:
        """Yield one finding of the joints that lose torque clearly sooner in simulation than corner_velocity says."""
        sooner = {
            joint.name: f"up to {corner:.1f} rad/s of {joint.corner_velocity:g}"
            for joint, corner in zip(self.robot.joints, corners(self.robot), strict=True)
            if corner < 0.9 * joint.corner_velocity and "curve" in (joint.actuator_kinds or ("curve",))
        }
        if sooner:
            first, how = next(iter(sooner.items()))
            problem = f"whole torque in simulation only up to a lower speed than corner_velocity; {first!r} {how}"
            fix = (
                "in one physics step a steeper curve could bring the unloaded link beyond its limit; a shorter "
                "simulation_timestep, or more armature if the rotor has more, takes it closer"
            )
            yield self.of_joints(list(sooner), "velocity_limit", problem, fix, "note")

    def self_contacts(self) -> Iterator[Finding]:
        """Tell which parts can meet and pass through each other in training; of a biped's soles warn."""
        robot, model = self.robot, self.robot.model
        pairs = zip(model.pair_geom1, model.pair_geom2, strict=True)
        simulated = {frozenset((model.geom(a).name, model.geom(b).name)) for a, b in pairs}
        missing = [pair for pair in robot.self_contacts.pairs if frozenset(pair) not in simulated]
        if not missing:
            return
        soles = {geom: foot.name for foot in robot.feet for geom in foot.geoms}
        feet = [pair for pair in missing if len({soles.get(geom) for geom in pair} - {None}) == 2]
        one, other = (feet or missing)[0]
        problem = (
            f"{len(missing)} pairs of parts can meet but pass through each other in training, such as {one!r} and "
            f"{other!r}; evaluations measure how often"
        )
        fix = f'to let them touch, add to [robot]: self_contacts = ["{one}", "{other}"], with all that should'
        if len(robot.feet) == 2 and feet:
            yield self.found("warning", ("robot", "self_contacts"), problem, fix)
        else:
            yield self.found("note", ("robot", "name"), problem, fix)

    def feet(self) -> Iterator[Finding]:
        """Yield what is wrong with the feet, their symmetry and the default pose."""
        robot = self.robot
        if not robot.feet:
            if not robot.wheels and not robot.thrusters:
                fix = 'add for each foot: [[feet]] name = "FL", geoms = ["FL_foot"], body = "FL_calf"'
                yield self.found("error", None, "no [[feet]] and no [[wheels]]: nothing to stand on", fix)
            return
        mirrors = []
        for mirror in (joint_mirror, foot_mirror):
            try:
                mirrors.append(mirror(robot))
            except RobotError as error:
                finding = _from_error(error, self.toml)
                fix = f"{finding.fix}; or train without mirror symmetry: --ppo.symmetry none"
                line = self.line_of_name(finding.problem) or finding.line
                line = line or line_of(self.text, ("feet", 0, "name"))
                yield replace(finding, line=line, fix=fix)
        if len(mirrors) == 2:
            yield from self.asymmetries(*mirrors)
        yield from self.standing()

    def line_of_name(self, problem: str) -> int | None:
        """Return the line with the name of the joint or foot that a problem begins with."""
        match = re.match(r"(joint|foot) '([^']+)'", problem)
        names = [foot.name for foot in self.robot.feet]
        if match is not None and match[1] == "joint":
            return line_of(self.text, self.place(match[2], "name"))
        return line_of(self.text, ("feet", names.index(match[2]), "name")) if match and match[2] in names else None

    def asymmetries(self, joints: Mirror, feet: Mirror) -> Iterator[Finding]:
        """Yield the pairs of joints and feet that are mirror images by name, but not by their figures."""
        robot, model = self.robot, self.robot.model
        unlike: dict[tuple[str, ...], list[tuple[str, str]]] = {}

        def warn(where: Where, what: str, names: Sequence[tuple[str, str]], differs: Sequence[str]) -> Finding:
            (name, partner), *others = names
            more = f" (and {len(others)} more of theirs)" if others else ""
            problem = f"{what} {name!r} should mirror {partner!r}, but has another {', '.join(differs)}{more}"
            fix = "make them alike; or train without mirror symmetry: --ppo.symmetry none"
            return self.found("warning", where, problem, fix)

        masses = model.body_mass[model.jnt_bodyid[[model.joint(name).id for name in robot.joint_names]]]
        for i, j in enumerate(joints.permutation.tolist()):
            one, other, sign = robot.joints[i], robot.joints[j], joints.sign[i]
            lower, upper = sorted(sign * end for end in (other.lower, other.upper))
            differs = [key for key in _ALIKE if not _same(getattr(one, key), getattr(other, key))]
            differs += [] if _same(one.default, sign * other.default) else ["default"]
            differs += [] if _same(one.lower, lower) and _same(one.upper, upper) else ["range"]
            differs += [] if _same(masses[i], masses[j]) else ["mass of its body"]
            if i < j and differs:
                unlike.setdefault(tuple(differs), []).append((other.name, one.name))
        for same, pairs in unlike.items():
            yield warn(self.place(pairs[0][0], "name"), "joint", pairs, same)
        data = mujoco.MjData(model)
        data.qpos[:] = robot.default_qpos
        mujoco.mj_forward(model, data)
        base = data.body(robot.base_body)
        away = base.xmat.reshape(3, 3).T
        for i, j in enumerate(feet.permutation.tolist()):
            names = robot.feet[i].name, robot.feet[j].name
            here, there = (away @ (data.sensor(f"{name}_sole_position").data - base.xpos) for name in names)
            if i < j and np.abs(here * [1.0, -1.0, 1.0] - there).max() > _MIRRORED:
                yield warn(("feet", j, "name"), "foot", [names[::-1]], ["place in the default pose"])

    def standing(self) -> Iterator[Finding]:
        """Put the robot on its default pose and let it hold its default targets."""
        robot, model, where = self.robot, self.robot.model, ("pose", "base_position")
        data = mujoco.MjData(model)
        data.qpos[:], data.ctrl[:] = robot.default_qpos, robot.default_ctrl
        mujoco.mj_forward(model, data)
        height = min(float(data.sensor(f"{foot.name}_sole_position").data[2]) - foot.radius for foot in robot.feet)
        x, y, z = robot.default_qpos[robot.base_qpos_indices[:3]]
        if abs(height) > FOOT_GAP:
            side = "above" if height > 0 else "below"
            problem = f"in the default pose the lowest foot is {abs(height):.3f} m {side} the floor"
            yield self.found("warning", where, problem, f"write base_position = [{x:g}, {y:g}, {z - height:.4f}]")
            return
        stance = Stance(model, robot.default_qpos, {foot.body: foot.geoms for foot in robot.feet})
        why, base = fault(stance), str(robot.base_body)
        if why is not None:
            yield self.found("warning", where, f"in the default pose {why}", _proposal(robot, stance))
        elif (
            stands(robot.servo_model, base, robot.default_qpos, robot.default_ctrl, STANDING_SECONDS) < STANDING_SECONDS
        ):
            problem = f"on its default targets the robot topples or sinks within {STANDING_SECONDS:g} s"
            fix = "a biped may have to; else check the default positions, kp (soft legs give way) and the inertias"
            yield self.found("warning", where, problem, fix)


def _proposal(robot: Robot, stance: Stance) -> str:
    """Return in words which pose to write, of those with bent knees the one that stands longest."""
    model, base, soles = robot.servo_model, str(robot.base_body), [geom for foot in robot.feet for geom in foot.geoms]
    poses = [on_the_floor(model, base, soles, pose) for pose in standing_poses(stance)]
    if not poses:
        return "bend the knees, and write the height that this command says then"
    pose = max(poses, key=lambda pose: stands(model, base, pose, pose[robot.joint_qpos_indices], STANDING_SECONDS))
    legs = [joint.name for joint in robot.leg_joints]
    places = robot.joint_qpos_indices[robot.joint_indices(legs)]
    x, y, z = pose[robot.base_qpos_indices[:3]]
    angles = ", ".join(f"{name} {pose[place]:.4g}" for name, place in zip(legs, places, strict=True))
    return f"write base_position = [{x:g}, {y:g}, {z:.4f}] and as default: {angles}"
