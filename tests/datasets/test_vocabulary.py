"""Words and their ranks in JSON files."""

import json

import pytest

from scratchlstm.datasets import imdb
from scratchlstm.datasets.vocabulary import read_word_index


def test_the_word_index_beside_the_file_is_used(npz):
    npz.with_name("imdb_word_index.json").write_text(json.dumps({"film": 2, "the": 1}), encoding="utf-8")
    assert imdb.get_word_index(npz) == {"the": 1, "film": 2}
    assert imdb.get_word_index(npz.with_name("imdb_word_index.json")) == {"the": 1, "film": 2}
    assert imdb.decode_review([1, 4, 5], path=npz) == "<start> the film"


def test_a_foreign_file_without_words_says_what_to_do(npz):
    with pytest.raises(FileNotFoundError, match="put its imdb_word_index.json next to it"):
        imdb.get_word_index(npz)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[1]", b"{}", b"null", b'"text"', b'{"a": 0}', b'{"a": -1}', b'{"a": 1.5}', b'{"a": "1"}',
        b'{"a": true}', b'{"a": 1, "b": 1}', b'{"a": [1]}', b'{"a": null}', b"\xff\xfe", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_word_index_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "imdb_word_index.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="cannot be read as Keras' imdb_word_index.json"):
        read_word_index(path)
