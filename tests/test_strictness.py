"""The conditions that conftest.py promises to every other test."""

import os
from pathlib import Path

import pytest


def test_an_implicit_broadcast_raises():
    import jax.numpy as jnp

    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)


@pytest.mark.usefixtures("strict_dtypes")
def test_an_implicit_dtype_promotion_raises_where_asked_for():
    import jax.numpy as jnp

    with pytest.raises(Exception, match="promotion"):
        jnp.ones(3, jnp.float32) + jnp.ones(3, jnp.int32)


def test_compilations_lists_each_compilation_of_a_function(compilations):
    import jax
    import jax.numpy as jnp

    @jax.jit
    def doubled(x):
        return 2 * x

    one, two = jnp.ones(1), jnp.ones(2)
    with compilations() as compiled:
        for argument in (one, one, two, two, one):
            doubled(argument)
    assert compiled == ["doubled", "doubled"]


def test_a_test_runs_in_an_empty_folder_outside_the_checkout():
    assert list(Path.cwd().iterdir()) == []
    assert not Path.cwd().is_relative_to(Path(__file__).parents[1])


def test_no_compiled_program_is_left_in_the_users_cache():
    assert not Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).is_relative_to(Path.home() / ".cache")
