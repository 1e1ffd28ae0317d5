"""Notebooks in a real kernel, which takes nothing from the settings of who runs the tests."""

from importlib.util import find_spec
from pathlib import Path

import pytest

_MISSING = [name for name in ("nbclient", "ipykernel", "nbformat") if find_spec(name) is None]


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason=f'NO NOTEBOOKS: {" and ".join(_MISSING)} missing: pip install -e ".[notebooks]"')
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.notebook)
            if _MISSING:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def run_notebook():
    """Executes the cells of a notebook in a folder, one after another in one kernel; they have their outputs then."""
    from execute import execute

    return execute
