"""Functions whose traces are kept on disk, beside JAX's cache of compiled programs.

That cache saves compiling, not tracing, and tracing MJX takes longer than all else that is left when a program is
compiled for the second time. So each batch size of an engine's function is traced and lowered once, written to a file
(`jax.export`), and read from there ever after. Nothing is kept where JAX has no cache folder.

A kept function is a primitive of its own: under `vmap` it only notes the batch, so the function is traced once, for
all robots, and not for one robot and then again for a batch of them.

Why internals: JAX has no public way to learn the size of a batch before a function is traced; the rules of primitives
(`jax.extend`, `jax.interpreters`) come without a promise to stay. Otherwise nothing is kept, and each process traces.
"""

import contextlib
import hashlib
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from jaxloco.internals import intact
from jaxloco.whole_files import write_bytes

FOLDER = "traces"
"""Within JAX's cache folder."""

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class Kept:
    """A function of one robot, traceable; under `vmap` one of many.

    Attributes:
        name: Unique name of the computation, such as one with a hash of all that it depends on beside its arguments.
        function: Takes and returns pytrees of arrays.
        result: What it returns, as a pytree of shapes.
    """

    name: str
    function: Callable[..., Any]
    result: Any

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        if not _cache() or not works():
            return self.function(*arguments)
        leaves, tree = jax.tree.flatten(arguments)
        results = _primitive().bind(*map(jnp.asarray, leaves), kept=self, tree=tree, batch=())
        return jax.tree.unflatten(jax.tree.structure(self.result), results)

    def flat(self, tree: Any, batch: tuple[int, ...]) -> Callable[..., list[jax.Array]]:
        """Return the function of a batch, from arrays to arrays."""

        def one(*leaves: jax.Array) -> list[jax.Array]:
            return jax.tree.leaves(self.function(*jax.tree.unflatten(tree, leaves)))

        function = one
        for _ in batch:
            function = jax.vmap(function)
        return function


@cache
def works() -> bool:
    """Whether JAX lets us define a primitive, and maps and traces it."""

    def check() -> None:
        like = jax.ShapeDtypeStruct((), jnp.float32)
        probe = Kept("probe", lambda x: x, like)
        parameters = {"kept": probe, "tree": jax.tree.structure((0.0,)), "batch": ()}
        mapped = jax.vmap(lambda x: _primitive().bind(x, **parameters)[0])
        if jax.eval_shape(mapped, jax.ShapeDtypeStruct((3,), jnp.float32)).shape != (3,):
            raise RuntimeError("a mapped primitive has another shape")

    return intact("primitives of JAX", "traces are not kept between runs", check)


@cache
def _primitive() -> Any:
    """Define the primitive."""
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    kept_trace = Primitive("kept_trace")
    kept_trace.multiple_results = True

    def run(*leaves: jax.Array, **parameters: Any) -> list[jax.Array]:
        return jax.jit(partial(kept_trace.bind, **parameters))(*leaves)

    def batched(leaves: Sequence[Any], dims: Sequence[Any], *, batch: tuple[int, ...], **parameters: Any) -> Any:
        size = next(x.shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None)
        leading = [batching.bdim_at_front(x, d, size) for x, d in zip(leaves, dims, strict=True)]
        results = kept_trace.bind(*leading, batch=(size, *batch), **parameters)
        return results, [0] * len(results)

    def differentiated(leaves: Sequence[Any], tangents: Sequence[Any], *, kept: Kept, tree: Any, batch: Any) -> Any:
        return jax.jvp(kept.flat(tree, batch), tuple(leaves), tuple(map(ad.instantiate_zeros, tangents)))

    kept_trace.def_impl(run)
    kept_trace.def_abstract_eval(_shapes)
    batching.primitive_batchers[kept_trace] = batched
    ad.primitive_jvps[kept_trace] = differentiated
    mlir.register_lowering(kept_trace, mlir.lower_fun(_lowered, multiple_results=True))
    return kept_trace


def _shapes(*_: Any, kept: Kept, tree: Any, batch: tuple[int, ...]) -> list[Any]:
    return [jax.core.ShapedArray((*batch, *leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(kept.result)]


def _lowered(*leaves: jax.Array, kept: Kept, tree: Any, batch: tuple[int, ...]) -> list[jax.Array]:
    """The computation, several batch axes taken as one."""
    size = (math.prod(batch),) if batch else ()
    merged = [leaf.reshape(size + leaf.shape[len(batch) :]) for leaf in leaves]
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in merged)
    results = _load(kept, tree, size, shapes)(*merged)
    return [result.reshape(batch + result.shape[len(size) :]) for result in results]


def _load(kept: Kept, tree: Any, size: tuple[int, ...], shapes: tuple[Any, ...]) -> Callable[..., list[jax.Array]]:
    """Return the traced function, from its file or into it."""
    file = _file(kept.name, str(tree), shapes)
    data = _read(file)
    if data is not None:
        return export.deserialize(data).call
    function = kept.flat(tree, size)
    try:
        with ThreadPoolExecutor(1) as thread:  # what is being traced around it must not show in the trace
            exported = thread.submit(lambda: export.export(jax.jit(function))(*shapes)).result()
    except ValueError as error:  # it calls something that JAX does not promise to stay
        logging.getLogger(__name__).info("the trace of %s cannot be kept: %s", kept.name, error)
        return function
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        data = exported.serialize()
        write_bytes(file, hashlib.sha256(data).digest() + data)
    return exported.call


def _file(*dependencies: Hashable) -> Path:
    """Return the file of a trace: named by all that it depends on."""
    options = (getattr(jax.config, name) for name in ("jax_default_matmul_precision", "jax_enable_x64"))
    settings = (*options, jax.default_backend(), jax.__version__)
    name = hashlib.sha256(repr((dependencies, settings)).encode()).hexdigest()[:32]
    return Path(_cache()) / FOLDER / name


def _cache() -> str:
    """Return the folder of JAX's cache, empty if there is none."""
    return getattr(jax.config, "jax_compilation_cache_dir", None) or ""


def _read(file: Path) -> bytearray | None:
    """Return the data behind a checksum, None if there are none or others."""
    with contextlib.suppress(OSError):
        data = file.read_bytes()
        if data[:_DIGEST] == hashlib.sha256(data[_DIGEST:]).digest():
            return bytearray(data[_DIGEST:])
    return None
