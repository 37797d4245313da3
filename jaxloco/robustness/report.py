"""A study of robustness as one HTML page that needs no network, beside a JSON file with all its numbers."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jaxloco.errors import ConfigError
from jaxloco.robustness import figures as pictures
from jaxloco.training.run_folder import RunFolder, plain, write_json, write_text
from jaxloco.whole_files import check_folder

PAGE, FIGURES = "report.html", "report.json"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; } img { max-width: 100%; display: block; }
table { border-collapse: collapse; } td, th { padding: 0.25em 0.8em 0.25em 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #999; font-weight: 600; } td { border-bottom: 1px solid #eee; }
.note { color: #555; font-size: 0.92em; }
"""


def check_free(out: str | None) -> None:
    """Check that a report can go into a folder.

    Raises:
        ConfigError: There is something in it, or nothing can be written there.
    """
    if out is None:
        return
    check_folder(out)
    if Path(out).is_dir() and any(Path(out).iterdir()):
        raise ConfigError(f"--out {out}: is not empty; choose another folder")


def write(out: str | None, figures: Mapping[str, Any]) -> Path:
    """Write the report and its numbers into a folder, runs/<date>/robustness_<n> if none is named; return the page.

    Raises:
        ConfigError: There is something in it, or nothing can be written there.
    """
    check_free(out)
    folder = RunFolder.create(name="robustness").path if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    figures = plain(figures)
    write_json(folder / FIGURES, figures)
    write_text(folder / PAGE, page(figures))
    return folder / PAGE


def page(figures: Mapping[str, Any]) -> str:
    """Return the report as HTML, pictures included. Figures as `Study.run` returns them, as plain values."""
    title = f"Robustness of {_name(Path(figures['bundle']).resolve())}: {figures['task']} on {figures['robot']}"
    parts = [f"<h1>{escape(title)}</h1>", *_summary(figures), *_ranking(figures), *_singles(figures), *_pairs(figures)]
    parts += _conditions(figures)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _name(bundle: Path) -> str:
    """Return what a bundle is called: a run or a policy of the zoo keeps it in its policy/."""
    return bundle.parent.name if bundle.name == "policy" else bundle.name


def summary(figures: Mapping[str, Any]) -> str:
    """Return the table of the report as text."""
    rows = _rows(figures)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """Return the summary, one row for each parameter below a head."""
    sobol = figures["sobol"]
    head = ["parameter", "in training", "played", "survives ≥ 95 %"]
    rows = [head + (["index, survival", f"index, {figures['measure']['name']}"] if sobol else [])]
    for name in figures["ranking"] or figures["varied"]:
        parameter = figures["parameters"][name]
        span = (parameter["low"], parameter["high"])
        row = [parameter["label"], _span(parameter["trained"], "unknown"), _span(span)]
        row.append(_span(figures["single"][name]["robust"], "not even where it is held"))
        rows.append(row + ([_index(sobol[outcome][name]) for outcome in ("survived", "measure")] if sobol else []))
    return rows


def _span(span: Sequence[float] | None, otherwise: str = "") -> str:
    if span is None:
        return otherwise
    low, high = (f"{end:.3g}" for end in span)
    return low if low == high else f"{low} to {high}"


def _index(entry: Mapping[str, Any]) -> str:
    """Return a total index with its interval."""
    low, high = entry["total_interval"]
    ends = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{entry['total']:.2f}{ends}"


def _summary(figures: Mapping[str, Any]) -> Iterable[str]:
    head, *rows = _rows(figures)
    yield "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"
    held, count = figures["held"], figures["single_episodes"]
    low, high = held["interval"]
    measure = figures["measure"]
    yield (
        f"<p>Where nothing is varied, {_percent(held['survived'])} of {count} episodes are survived (95 % interval "
        f"{_percent(low)} to {_percent(high)}); {escape(measure['name'])} {held['measure']:.3g} "
        f"{escape(measure['unit'])}.</p>"
    )
    yield (
        '<p class="note">“survives ≥ 95 %”: the part of the axis, around where the parameter is held, in which at '
        "least 95 % of the episodes are survived while nothing else is varied.</p>"
    )


def _ranking(figures: Mapping[str, Any]) -> Iterable[str]:
    sobol = figures["sobol"]
    if sobol is None:
        return
    yield "<h2>What matters most</h2>"
    yield _image(pictures.ranking(figures), "Sobol indices")
    yield (
        f'<p class="note">Sobol indices of all parameters together, each uniform over its axis: {sobol["points"]} '
        f"points ({sobol['samples']} base samples) of {figures['episodes']} episodes. The total index is the share of "
        "the variance that would be left if all others were known, interactions included; the first-order index is "
        "what the parameter does alone. Lines are 95 % bootstrap intervals of the total index. Both depend on how wide "
        "the axes are.</p>"
    )


def _singles(figures: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>One parameter at a time</h2>"
    yield _image(pictures.singles(figures), "survival and error by parameter")
    yield (
        f'<p class="note">{figures["single_episodes"]} episodes at each point, the same ones everywhere. Bands: 95 % '
        "Wilson intervals of the share survived; two standard errors of the mean. Grey: what training covered. Dotted: "
        "where the parameter is held while others are varied.</p>"
    )


def _pairs(figures: Mapping[str, Any]) -> Iterable[str]:
    if not figures["pairs"]:
        return
    yield "<h2>Two parameters at a time</h2>"
    half = _half_width(figures)
    yield (
        f'<p class="note">{figures["episodes"]} episodes in each cell, the same ones in all: a 95 % Wilson interval is '
        f"{half} wide at 50 % survived. Dashed: what training covered of both. Cross: where they are held.</p>"
    )
    for grid in figures["pairs"]:
        yield _image(pictures.pair(figures, grid), f"{grid['x']} and {grid['y']}")


def _half_width(figures: Mapping[str, Any]) -> str:
    """Return the width of an interval at one half, in percentage points."""
    from jaxloco.statistics import wilson

    low, high = wilson([0.5 * figures["episodes"]], figures["episodes"])
    return f"{100.0 * float(high[0] - low[0]):.0f} percentage points"


def _conditions(figures: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>How it was played</h2><ul>"
    others = "drawn as in training" if figures["randomize"] else "those of the robot’s own model"
    command = "drawn as in training" if figures["command"] is None else " ".join(f"{x:g}" for x in figures["command"])
    measure, agreement = figures["measure"], figures["agreement"]
    lines = [
        f"Bundle {figures['bundle']}; jaxloco {figures['versions']['jaxloco']}, MuJoCo "
        f"{figures['versions']['mujoco']}, engine {figures['engine']}.",
        f"Episodes of {figures['seconds']:g} s, seed {figures['seed']}: initial states, noise and the times of pushes "
        f"are drawn as in training; command {command}; other properties of the robot are {others}.",
        f"{measure['name']}: mean over the time until an episode ends, "
        f"{'more' if measure['more_is_better'] else 'less'} is better. Where robots fall early it says little.",
        f"Played in the environment of the training, with the bundle’s network. {agreement['episodes']} episodes "
        f"({agreement['steps']} control steps) were replayed through the onboard runtime: the largest difference of an "
        f"action, in [-1, 1], was {agreement['largest']:.1g} (tolerance {agreement['tolerance']:g}).",
        f"{figures['env_steps']} control steps in {figures['wall_seconds']:.0f} s.",
    ]
    lines += [f"{p['label']}: {p['remark']}; held at {p['held']:.3g}." for p in figures["parameters"].values()]
    lines += [f"{name} was left out: {reason}." for name, reason in figures["left_out"].items()]
    yield "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def _image(picture: bytes, alt: str) -> str:
    data = base64.b64encode(picture).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
