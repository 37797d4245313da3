"""Files of a model that cannot be had, and the shapes that go with them."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.doctor.model_checks import MESHES
from jaxloco.model_import.draft import Notes, few

POINTER_TEXT = b"version https://git-lfs"
"""First bytes of what stands in the place of a file that Git LFS has not fetched."""
_PICTURES = (".jpg", ".jpeg", ".bmp", ".tga", ".tif", ".tiff", ".gif", ".webp", ".dds", ".exr", ".hdr")
"""Pictures that MuJoCo does not read."""


@dataclass(frozen=True)
class Fault:
    """Why a file cannot be had: words before its name and after it, and what to do.

    Attributes:
        before: Words before its name.
        fix: What to do.
        after: Words after its name.
        usual: Whether a picture of that fault is no reason to warn.
    """

    before: str
    fix: str
    after: str = ""
    usual: bool = False


MISSING = Fault("there is no file", "put it there")
NAMELESS = Fault("a <mesh> names no file in", "write its filename")
FOREIGN_MESH = Fault("MuJoCo cannot read", "convert it to .obj", usual=True)
FOREIGN_TEXTURE = Fault("MuJoCo cannot read", "convert it to .png", usual=True)
POINTER = Fault("Git LFS has not fetched", "fetch it: git lfs pull")


def broken(why: str, *, texture: bool = False) -> Fault:
    """Return the fault of a file that holds something else than its kind should."""
    kind = ".png" if texture else "binary .stl or .obj"
    return Fault("MuJoCo cannot read", f"save it anew, as {kind}", f": {why}")


def file_fault(file: Path, *, texture: bool = False) -> Fault | None:
    """Return what is wrong with a file by its name and its first bytes."""
    if not file.is_file():
        return MISSING
    with open(file, "rb") as opened:
        first = opened.read(len(POINTER_TEXT))
    if first == POINTER_TEXT:
        return POINTER
    if not first:
        return broken("it is empty", texture=texture)
    if texture:
        return FOREIGN_TEXTURE if file.suffix.lower() in _PICTURES else None
    return None if file.suffix.lower() in MESHES else FOREIGN_MESH


def read_ascii(mesh: Any) -> Fault | None:
    """Read a mesh that MuJoCo cannot, an STL in ASCII; return what is wrong with it."""
    if Path(mesh.file).suffix.lower() != ".stl":
        return None
    content = Path(mesh.file).read_bytes()
    if content.lstrip()[:5].lower() != b"solid" or b"vertex" not in content[:1000]:
        return None
    corners = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", content)
    if len(corners) % 3 or content.count(b"vertex") != len(corners):
        return broken("it ends within a triangle")
    try:
        points, faces = np.unique(np.array(corners, float), axis=0, return_inverse=True)
    except ValueError as error:
        return broken(f"{str(error).rpartition(': ')[2].removeprefix('b')} is not a number")
    if not np.isfinite(points).all():
        return broken("a coordinate is not finite")
    mesh.uservert, mesh.userface, mesh.file = points.ravel(), faces.ravel(), ""
    return None


def trial_fault(asset: Any, *, touches: bool) -> Fault | None:
    """Return what MuJoCo finds wrong with a mesh, texture or height field alone."""
    trial, texture = mujoco.MjSpec(), isinstance(asset, mujoco.MjsTexture)
    if texture:
        given = {key: getattr(asset, key) for key in ("type", "file", "content_type", "gridsize")}
        copy = trial.add_texture(name="file", gridlayout="".join(asset.gridlayout).rstrip("\0"), **given)
        for i, file in enumerate(asset.cubefiles):
            copy.cubefiles[i] = file
    elif isinstance(asset, mujoco.MjsHField):
        trial.add_hfield(name="file", file=asset.file, size=asset.size)
    else:
        keys = ("file", "content_type", "uservert", "userface", "scale", "inertia")
        trial.add_mesh(name="file", **{key: getattr(asset, key) for key in keys})
        touch = {"contype": int(touches), "conaffinity": int(touches)}
        trial.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="file", **touch)
    try:
        trial.compile()
    except ValueError as error:
        why = re.sub(r"^Error: (\w+_decoder: )?", "", str(error).splitlines()[0])
        why = re.sub(r": file| 'file'|; perhaps.*| Consider.*", "", why.replace(f" '{asset.file}'", ""))
        return broken(why, texture=texture)
    return None


class Lost:
    """Shapes that are left out with their files."""

    def __init__(self) -> None:
        self._files: dict[tuple[Fault, str], list[tuple[str, str]]] = defaultdict(list)

    def shape(self, fault: Fault, file: str, body: str, notes: Notes, *, touches: bool) -> None:
        """Keep a shape of a body."""
        self._files[fault, "shape" if touches else "picture"].append((file, body))
        if touches:
            notes.bare[body] = f"{file}{fault.after}; {fault.fix}"

    def picture(self, fault: Fault, file: str) -> None:
        """Keep a file that only drawing needs."""
        self._files[fault, "picture"].append((file, ""))

    def note(self, notes: Notes) -> None:
        """Note them, each fault once."""
        for (fault, kind), found in self._files.items():
            problem = f"{fault.before} {few(file for file, _ in found)}"
            if kind == "shape":
                problem += f", shapes that touch of {few(body for _, body in found)}{fault.after}"
                notes.add(problem, f"left out; {fault.fix}, or give the part a simple shape", "warning")
                continue
            done = "left out: only drawing needs them" + ("" if fault.usual else f"; {fault.fix}")
            notes.add(problem + fault.after, done, "note" if fault.usual else "warning")
