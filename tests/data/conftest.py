"""What the tests of data share."""

import warnings

import pytest


@pytest.fixture(scope="session", autouse=True)
def ray_data_context() -> None:
    """Make Ray Data's context once: Ray 2.60 warns of its own defaults when it does."""
    import ray.data

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ray.data.DataContext.get_current()
