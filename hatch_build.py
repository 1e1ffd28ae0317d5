"""Refuses an older Python at once. pip alone would first try every version of every dependency, for many minutes."""

import sys

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RecentPython(MetadataHookInterface):
    """Runs before any dependency is looked for."""

    def update(self, metadata: dict) -> None:
        if sys.version_info < (3, 11):  # noqa: UP036
            raise SystemExit(f"scratchlstm needs Python 3.11 or newer, and this is {sys.version.split()[0]}")
