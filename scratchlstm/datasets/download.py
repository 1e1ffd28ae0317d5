"""Fetch a file of known hash, or give up within seconds."""

import hashlib
import threading
from pathlib import Path

from scratchlstm.datasets.cache import cache_folder
from scratchlstm.files import atomic_write, require_writable_folder

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 20.0


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """The file's hash, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def fetch(url: str, known_hash: str) -> Path:
    """The file behind `url` in our cache folder, downloaded unless it is there already.

    `known_hash` is "sha256:..." or "md5:...", hexadecimal. A file with another hash is never kept.

    Raises:
        ModuleNotFoundError: without the package pooch.
        ConnectionError: where the server does not answer within seconds.
        OSError: where the download fails or the cache folder cannot be written.
        ValueError: where what came has another hash.
    """
    algorithm, expected = known_hash.split(":")
    target = cache_folder() / url.rsplit("/", 1)[-1]
    if target.is_file() and file_hash(target, algorithm) == expected:
        return target
    try:
        from pooch import HTTPDownloader
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("downloading needs the package pooch") from error
    _require_answer(url)
    require_writable_folder(target.parent)
    with atomic_write(target) as file:
        HTTPDownloader(timeout=(_CONNECT_SECONDS, _READ_SECONDS), chunk_size=1 << 16)(url, file, None)
        file.flush()
        found = file_hash(Path(file.name), algorithm)
        if found != expected:
            raise ValueError(f"what {url} sent has the {algorithm} {found}, expected {expected}")
    return target


def _require_answer(url: str) -> None:
    """Raise ConnectionError where the server does not answer within `_CONNECT_SECONDS`.

    A timeout of requests counts for each of a host's addresses anew, and not for the look-up of its
    name; a thread that is no longer waited for bounds them all.
    """
    import requests  # pooch brings it

    failures: list[Exception] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=_CONNECT_SECONDS)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS + 1)
    host = url.split("/")[2]
    if thread.is_alive():
        raise ConnectionError(f"{host} did not answer within {_CONNECT_SECONDS:.0f} seconds")
    if failures:
        raise ConnectionError(f"{host} cannot be reached ({type(failures[0]).__name__})") from failures[0]
