import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.preprocessing.text import FILTERS, Tokenizer, ngrams, text_to_word_sequence

# Few words, so that they repeat and tie; and letters whose lower case is another length or another script.
words = st.sampled_from(["the", "The", "film", "good", "bad", "it's", "<br", "/>", "naïve", "İstanbul", "ΣΑΣ", "unk"])
texts = st.one_of(
    st.lists(words, max_size=12).map(" ".join),
    st.text(st.sampled_from("aAbß. ,!\t\n\r\x85-"), max_size=20),
)


@pytest.fixture(scope="module")
def keras_text():
    return pytest.importorskip("keras.src.legacy.preprocessing.text", reason="no Keras to compare with")


def test_words_are_lower_case_without_punctuation():
    assert text_to_word_sequence("Don't PANIC!<br /><br />It's\ta -- test.\n") == [
        "don't", "panic", "br", "br", "it's", "a", "test",
    ]  # fmt: skip


def test_the_filters_are_the_documented_ones():
    assert text_to_word_sequence(FILTERS) == []
    assert text_to_word_sequence("don't") == ["don't"]


def test_other_separators_and_filters():
    assert text_to_word_sequence("A,b;C", filters=";", lower=False, split=",") == ["A", "b", "C"]


@given(text=st.text(max_size=40) | texts, lower=st.booleans(), split=st.sampled_from([" ", ",", "ab"]))
def test_words_agree_with_keras(keras_text, text, lower, split):
    expected = keras_text.text_to_word_sequence(text, lower=lower, split=split)
    assert text_to_word_sequence(text, lower=lower, split=split) == expected


def test_ranks_go_by_count_and_ties_by_first_appearance():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["zebra apple", "mango apple"])
    assert tokenizer.word_index == {"apple": 1, "zebra": 2, "mango": 3}
    assert tokenizer.index_word == {1: "apple", 2: "zebra", 3: "mango"}
    assert dict(tokenizer.word_counts) == {"zebra": 1, "apple": 2, "mango": 1}
    assert list(tokenizer.word_counts) == ["zebra", "apple", "mango"]
    assert tokenizer.document_count == 2


def test_num_words_keeps_indices_below_it_and_never_cuts_word_index():
    tokenizer = Tokenizer(num_words=3)
    tokenizer.fit_on_texts(["a a a b b c"])
    assert len(tokenizer.word_index) == 3
    assert tokenizer.texts_to_sequences(["a b c d"]) == [[1, 2]]


def test_oov_token_takes_index_1_and_stands_for_unknown_and_cut_words():
    tokenizer = Tokenizer(num_words=3, oov_token="<OOV>")
    tokenizer.fit_on_texts(["a a a b b c"])
    assert tokenizer.word_index == {"<OOV>": 1, "a": 2, "b": 3, "c": 4}
    assert tokenizer.texts_to_sequences(["a b never"]) == [[2, 1, 1]]
    assert tokenizer.sequences_to_texts([[2, 3, 99]]) == ["a <OOV> <OOV>"]


def test_an_oov_token_met_in_the_texts_keeps_index_1():
    tokenizer = Tokenizer(num_words=3, oov_token="unk")
    tokenizer.fit_on_texts(["a a b unk"])
    assert tokenizer.word_index == {"unk": 1, "a": 2, "b": 3}
    assert tokenizer.texts_to_sequences(["unk a b"]) == [[1, 2, 1]]


@settings(max_examples=200, deadline=None)
@given(
    corpora=st.lists(st.lists(texts | st.lists(words, max_size=4), max_size=5), min_size=1, max_size=2),
    others=st.lists(texts, max_size=4),
    num_words=st.none() | st.integers(1, 6),
    lower=st.booleans(),
    char_level=st.booleans(),
    oov_token=st.sampled_from([None, "<OOV>"]),
)
def test_everything_agrees_with_keras(keras_text, corpora, others, num_words, lower, char_level, oov_token):
    assume(any(corpora))
    options = {"num_words": num_words, "lower": lower, "char_level": char_level, "oov_token": oov_token}
    ours, theirs = Tokenizer(**options), keras_text.Tokenizer(**options)
    for corpus in corpora:  # a second fit adds to the first
        ours.fit_on_texts(corpus)
        theirs.fit_on_texts(corpus)
    assert ours.word_index == theirs.word_index
    assert ours.index_word == theirs.index_word
    assert list(ours.word_counts.items()) == list(theirs.word_counts.items())
    assert ours.document_count == theirs.document_count
    asked = [*corpora[0], *others]
    sequences = theirs.texts_to_sequences(asked)
    assert ours.texts_to_sequences(asked) == sequences
    indices = [*sequences, [1, 2, 50, 3]]
    assert ours.sequences_to_texts(indices) == theirs.sequences_to_texts(indices)


@given(corpus=st.lists(st.lists(words, max_size=8).map(" ".join), min_size=1, max_size=5))
def test_known_texts_come_back_as_their_words(corpus):
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(corpus)
    back = tokenizer.sequences_to_texts(tokenizer.texts_to_sequences(corpus))
    assert back == [" ".join(text_to_word_sequence(text)) for text in corpus]


def test_texts_may_be_a_generator_and_are_not_changed():
    tokenizer = Tokenizer()
    listed = ["Some", "Words"]
    tokenizer.fit_on_texts(text for text in ["one two", listed])
    assert tokenizer.document_count == 2
    assert listed == ["Some", "Words"]


def test_a_word_index_from_a_file_is_enough():
    tokenizer = Tokenizer()
    tokenizer.word_index = json.loads('{"good": 1, "bad": 2}')
    assert tokenizer.texts_to_sequences(["bad, bad, good"]) == [[2, 2, 1]]


@pytest.mark.parametrize("bad", [None, 3, b"bytes", ["word", 3], {"a": 1}, float("nan")])
def test_a_text_that_is_none_is_named_and_nothing_is_counted(bad):
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["a b"])
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string or a list of words, got \w+"):
        tokenizer.fit_on_texts(["a", bad])
    assert tokenizer.document_count == 1
    assert tokenizer.word_counts["a"] == 1
    with pytest.raises(TypeError, match=r"texts\[0\]"):
        tokenizer.texts_to_sequences([bad])


def test_one_string_is_not_a_list_of_texts():
    with pytest.raises(TypeError, match=r"pass a list, \[text\]"):
        Tokenizer().fit_on_texts("one text")


def test_other_bad_arguments():
    with pytest.raises(TypeError, match="input_text must be a string, got int 3"):
        text_to_word_sequence(3)
    with pytest.raises(ValueError, match="split is the empty string"):
        text_to_word_sequence("a", split="")
    for num_words in (0, -1):
        with pytest.raises(ValueError, match="num_words must be at least 1"):
            Tokenizer(num_words=num_words)
    for num_words in ("many", True, 2.5):
        with pytest.raises(TypeError, match="num_words must be an integer"):
            Tokenizer(num_words=num_words)
    with pytest.raises(TypeError, match="oov_token must be a string"):
        Tokenizer(oov_token=1)
    with pytest.raises(ValueError, match="call fit_on_texts"):
        Tokenizer(oov_token="x").texts_to_sequences(["a"])
    with pytest.raises(ValueError, match="call fit_on_texts"):
        Tokenizer().sequences_to_texts([[1]])


def test_bigrams_end_at_each_word():
    assert ngrams(["not", "a", "good", "film"]) == ["not", "not a", "a good", "good film"]
    assert ngrams(("not", "a", "good", "film"), 3) == ["not", "not a", "not a good", "a good film"]
    assert ngrams([]) == []


@given(listed=st.lists(words, max_size=8), n=st.integers(1, 10) | st.just(10**12))
def test_an_ngram_is_the_words_up_to_its_own(listed, n):
    assert [each.split(" ") for each in ngrams(listed, n)] == [
        listed[max(0, end - n) : end] for end in range(1, len(listed) + 1)
    ]


@given(
    corpus=st.lists(st.lists(words, max_size=8), min_size=1, max_size=5),
    others=st.lists(st.lists(words | st.just("never"), max_size=8), max_size=3),
    limits=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    maxlen=st.integers(1, 9),
)
def test_ids_of_bigrams_are_beside_those_of_their_words(corpus, others, limits, maxlen):
    of_words, of_bigrams = (Tokenizer(limit, oov_token="<oov>") for limit in limits)
    of_words.fit_on_texts(corpus)
    of_bigrams.fit_on_texts(map(ngrams, corpus))
    texts = [*corpus, *others]
    ids, pairs = of_words.texts_to_sequences(texts), of_bigrams.texts_to_sequences(map(ngrams, texts))
    for text, row, of_pairs in zip(texts, ids, pairs, strict=True):
        assert len(row) == len(of_pairs) == len(text)
        assert all(1 <= index < limits[0] for index in row)
        assert all(1 <= index < limits[1] for index in of_pairs)
        for before, word, index in zip(["", *text], text, of_pairs, strict=False):
            rank = of_bigrams.word_index.get(f"{before} {word}".strip().lower(), limits[1])
            assert index == (rank if rank < limits[1] else 1)
    both = [pad_sequences(each, maxlen) != 0 for each in (ids, pairs)]
    assert (both[0] == both[1]).all()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"words": "not a film"}, TypeError, "words must be a list of words, .* got str 'not a film'"),
        ({"words": ["a", 3]}, TypeError, "words must be a list of words"),
        ({"words": [["a"]]}, TypeError, "words must be a list of words"),
        ({"words": ["a", "new york"]}, ValueError, "words must not contain spaces, .*, got str 'new york'"),
        ({"n": 0}, ValueError, "n must be a whole number above 0, not 0"),
        ({"n": 2.0}, ValueError, "n must be a whole number above 0"),
    ],
)
def test_wrong_arguments_of_ngrams(wrong, error, message):
    with pytest.raises(error, match=message):
        ngrams(**{"words": ["a", "b"], **wrong})


class _Shouted(str):
    __slots__ = ()

    def lower(self):
        return str.lower(self) + "!"


def test_a_string_of_a_class_of_ones_own_is_a_word():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts([[_Shouted("A"), "b"]])
    assert tokenizer.word_index == {"a!": 1, "b": 2}
