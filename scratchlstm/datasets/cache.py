"""Files that are downloaded once, into the folder where they are kept between runs."""

import hashlib
import io
import threading
from pathlib import Path
from typing import Any

from scratchlstm._support.files import atomic_write, cache_folder, require_writable_folder

MOST_BYTES = 64 << 20  # of a file that is fetched; Keras' own have 17 and 2 MB
_ANSWER_SECONDS = 6.0  # until the first bytes are there
_PAUSE_SECONDS = 20.0  # between two pieces
_TOTAL_SECONDS = 300.0


def fetch(url: str, known_hash: str) -> Path:
    """The file behind `url` in our cache folder, downloaded unless it is there already.

    `known_hash` is "sha256:..." or "md5:...", hexadecimal. A file with another hash is never kept. What is there
    already needs neither the package pooch nor a folder that can be written, which `pooch.retrieve` would ask for.

    Raises:
        ModuleNotFoundError: without the package pooch.
        ConnectionError: the server cannot be reached, does not answer within seconds, takes longer than five minutes,
            or sends an error or too much.
        OSError: the cache folder cannot be written.
        ValueError: what came has another hash.
    """
    algorithm, expected = known_hash.split(":")
    target = cache_folder() / url.rsplit("/", 1)[-1]
    if target.is_file() and file_hash(target, algorithm) == expected:
        return target
    data = _download(url)
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(f"what {url} sent has the {algorithm} {found}, expected {expected}")
    require_writable_folder(target.parent)
    with atomic_write(target, every_rank=True) as file:
        file.write(data)
    return target


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """The file's hash, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


class _Received(io.BytesIO):
    """What a server has sent so far: at most `MOST_BYTES`."""

    def write(self, chunk: Any, /) -> int:
        if self.tell() + len(chunk) > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES:,} bytes")
        return super().write(chunk)


def _download(url: str) -> bytes:
    """The content behind `url`, within the limits of time and size above.

    A timeout of requests applies to each of a host's addresses and to each read, and not to the look-up of the name;
    a thread that we stop waiting for bounds them all.
    """
    try:
        from pooch import HTTPDownloader
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("downloading needs the package pooch") from error
    import requests  # pooch brings it

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
        received.close()  # so that the next piece ends the thread
        done, seconds = ("send all of the file", _TOTAL_SECONDS) if answered else ("answer", _ANSWER_SECONDS)
        raise ConnectionError(f"{host} did not {done} within {seconds:.0f} seconds")
    for failure in failures:  # one at most
        unreachable = isinstance(failure, requests.ConnectionError | requests.Timeout)
        said = f"cannot be reached ({type(failure).__name__})" if unreachable else f"did not send the file: {failure}"
        raise ConnectionError(f"{host} {said}") from failure
    return received.getvalue()
