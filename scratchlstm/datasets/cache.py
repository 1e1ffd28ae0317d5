"""Files downloaded once and cached between runs."""

import hashlib
import io
import threading
from pathlib import Path
from typing import Any

from scratchlstm._support.files import atomic_write, cache_folder, require_writable_folder

MOST_BYTES = 64 << 20  # limit for a downloaded file; Keras' files have 17 and 2 MB
_ANSWER_SECONDS = 6.0  # until the first bytes arrive
_PAUSE_SECONDS = 20.0  # between two chunks
_TOTAL_SECONDS = 300.0


def fetch(url: str, known_hash: str) -> Path:
    """The file behind `url` in our cache folder, downloaded if it is not there yet.

    `known_hash` is "sha256:..." or "md5:...", hexadecimal. A file with another hash is never kept. A cached file needs
    neither the package pooch nor a writable folder, both of which `pooch.retrieve` would require.

    Raises:
        ModuleNotFoundError: without the package pooch.
        ConnectionError: the server cannot be reached, does not answer within seconds, takes more than five minutes,
            or sends an error or too much data.
        OSError: the cache folder cannot be written.
        ValueError: the file has another hash.
    """
    algorithm, expected = known_hash.split(":")
    target = cache_folder() / url.rsplit("/", 1)[-1]
    if target.is_file() and file_hash(target, algorithm) == expected:
        return target
    data = _download(url)
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(f"the file from {url} has the {algorithm} {found}, expected {expected}")
    require_writable_folder(target.parent)
    with atomic_write(target, every_rank=True) as file:
        file.write(data)
    return target


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """The file's hash in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


class _Received(io.BytesIO):
    """What a server has sent so far, at most `MOST_BYTES`."""

    def write(self, chunk: Any, /) -> int:
        if self.tell() + len(chunk) > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES:,} bytes")
        return super().write(chunk)


def _download(url: str) -> bytes:
    """The content behind `url`, within the time and size limits above.

    The timeout of requests applies to each of a host's addresses and to each read, but not to the name lookup; running
    it in a thread that we stop waiting for limits them all.
    """
    try:
        from pooch import HTTPDownloader
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("downloading needs the package pooch") from error
    import requests  # installed with pooch

    received = _Received()
    failures: list[Exception] = []

    def download() -> None:
        try:
            HTTPDownloader(timeout=(_ANSWER_SECONDS, _PAUSE_SECONDS), chunk_size=1 << 13)(url, received, None)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)
    if answered := received.tell() > 0:
        thread.join(_TOTAL_SECONDS - _ANSWER_SECONDS)
    host = url.split("/")[2]
    if thread.is_alive():
        received.close()  # so that the next chunk ends the thread
        done, seconds = ("send all of the file", _TOTAL_SECONDS) if answered else ("answer", _ANSWER_SECONDS)
        raise ConnectionError(f"{host} did not {done} within {seconds:.0f} seconds")
    for failure in failures:  # at most one
        unreachable = isinstance(failure, requests.ConnectionError | requests.Timeout)
        said = f"cannot be reached ({type(failure).__name__})" if unreachable else f"did not send the file: {failure}"
        raise ConnectionError(f"{host} {said}") from failure
    return received.getvalue()
