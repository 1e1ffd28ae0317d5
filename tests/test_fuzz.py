"""Thousands of damaged and hostile files: each is read as what it was, or refused with one clear error.

None crashes, hangs, runs anything, takes more memory than its size explains, or is read as something else.
"""

import copy
import io
import json
import pickle
import random
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential
from scratchlstm.callbacks import Callback, Checkpoint
from scratchlstm.datasets.reviews import corpus_path, load_corpus, read_npz, save_corpus, tokenize
from scratchlstm.datasets.vocabulary import read_vocabulary, read_word_index
from scratchlstm.layers import LSTM, Concatenate, Dense, Dropout, Embedding, Flatten
from scratchlstm.metrics import BinaryAccuracy
from scratchlstm.optimizers import Adam
from scratchlstm.training import archive

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
X, Y = np.arange(24).reshape(8, 3) % 5, np.arange(8) % 2


def make():
    layers = [Embedding(5, 2, input_shape=(3,)), Dropout(0.5), LSTM(2), Dense(1, activation="sigmoid")]
    model = Sequential(layers, seed=0)
    model.compile(Adam(0.01, clipnorm=1.0), "binary_crossentropy", metrics=[BinaryAccuracy("half", 0.25)])
    return model


def wired():
    """States, several inputs and outputs by name, a layer at two places, a model inside."""
    words, start = Input((3,), name="words"), Input((2,))
    inside = Input((3, 2))
    inner = Model(inside, [Dense(2)(inside), Flatten()(inside)], name="inner")
    sequence, flat = inner(Embedding(5, 2)(words))
    shared = LSTM(2, return_sequences=True, return_state=True)
    _, h, c = shared(sequence, initial_state=[start, start])
    again, *_ = shared(sequence, initial_state=[c, h])
    model = Model([words, start], {"a": Dense(1)(again), "b": Concatenate()([h, flat])}, seed=0)
    model.compile("adam", "mse", loss_weights={"a": 0.5, "b": 2})
    return model


class Stopped(Exception):
    """Ends a run before its third batch."""


class Counts(Callback):
    """Has a state, and ends the run."""

    def __init__(self, last):
        self.count, self.last = 0, last

    def on_train_batch_begin(self, batch, logs=None):
        if self.count >= self.last:
            raise Stopped
        self.count += 1

    def get_state(self):
        return {"count": self.count, "arrays": [np.arange(3.0)], "text": "ü"}

    def set_state(self, state):
        assert state["arrays"][0].tolist() == [0, 1, 2]
        assert state["text"] == "ü"
        self.count = range(10)[state["count"]]


def resume(path, last=0, checkpoint=None):
    """The model as it is when the run at `path` continues."""
    model = make()
    before = model.get_weights()
    callbacks = [Counts(last), *([] if checkpoint is None else [Checkpoint(checkpoint, 1)])]
    try:
        model.fit(X, Y, 2, 2, 0, callbacks=callbacks, validation_split=0.25, resume=path)
    except Stopped:
        pass
    except ValueError as error:
        if "cannot be resumed" in str(error):  # before anything is changed
            assert all(map(np.array_equal, model.get_weights(), before))
        raise
    return model


def content(model):
    """All that a file keeps of a model."""
    optimizer = model.optimizer
    return (
        [(type(layer).__name__, layer.get_config()) for layer in model.layers],
        (optimizer.get_config(), optimizer.iterations, [metric.get_config() for metric in model.metrics]),
        [array.tobytes() for array in model.params],
        [{name: array.tobytes() for name, array in slots.items()} for slots in optimizer.state],
        None if model.history is None else (model.history.epoch, model.history.history),
    )


def described_with_weights(model):
    return archive.describe(model), None, [array.tobytes() for array in model.params]


def reviews(corpus):
    return [(half.ranks.tolist(), half.lengths.tolist(), half.labels.tolist()) for half in (corpus.train, corpus.test)]


def _whole_numbers(words):
    return all(type(word) is str and type(number) is int and number > 0 for word, number in words.items())


# --- the files, and what is read from each ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Kind -> (content, reader, what may come out of a damaged file: the same, or whatever passes a test)."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRATCHLSTM_CACHE", str(folder))
        save_corpus("cache", tokenize((["a b a", "b c"], [0, 1]), (["c a"], [1])))
        cache = corpus_path("cache").read_bytes()
    model = make()
    model.fit(X, Y, 2, 2, 0)
    model.save(folder / "model")
    wired().save(folder / "graph")
    resume(folder / "none", last=5, checkpoint=folder / "run")
    halves = {f"{half}_{part}": value for part in ("train", "test") for half, value in
              (("x", np.array([1, 2, 300, 3])), ("lengths", np.array([3, 1])), ("y", np.array([0, 1])))}  # fmt: skip
    np.savez(folder / "plain", **halves)
    words = {"the": 1, "film": 2, "é": 3}
    vocabulary = {"maxlen": 8, "num_words": 20, "words": words}

    def read_cache(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCRATCHLSTM_CACHE", str(path.parent))
            path.rename(corpus_path("cache"))
            corpus = load_corpus("cache")
        if corpus is None:
            raise ValueError("made anew")
        return reviews(corpus), corpus.words

    def keras(path):
        return reviews(read_npz(path))

    same = None  # has to come out as it went in: a checksum sees every change
    return {
        "model": ((folder / "model").read_bytes(), lambda path: content(Sequential.load(path)), same),
        "graph": ((folder / "graph").read_bytes(), lambda path: described_with_weights(Model.load(path)), same),
        "checkpoint": ((folder / "run").read_bytes(), lambda path: content(resume(path)), same),
        "cache": (cache, read_cache, same),
        "imdb.npz": ((folder / "plain.npz").read_bytes(), keras, same),
        "word index": (json.dumps(words).encode(), read_word_index, _whole_numbers),
        "vocabulary": (json.dumps(vocabulary).encode(), read_vocabulary, lambda v: _whole_numbers(v["words"])),
    }


KINDS = ["model", "checkpoint", "cache", "imdb.npz", "word index", "vocabulary"]
ARCHIVES = KINDS[:4]
_OVERHEAD = 3 << 20  # of Python's own objects, whatever the file


class Tried:
    """Reads file after file, and notes each that is met with anything but what was written, or one clear error."""

    def __init__(self, folder, kind, files):
        self.folder, self.kind = folder, kind
        self.content, self.reader, self.passes = files[kind]
        self.expected = self.read(self.content)
        self.wrong, self.refused, self.count = [], 0, 0

    def read(self, content):
        path = self.folder / "the file"
        path.unlink(missing_ok=True)  # writing over it waits for the disk, each time
        path.write_bytes(content)
        return self.reader(path)

    def __call__(self, content, label):
        self.count += 1
        tracemalloc.start()  # it slows the making of the files, so it runs for the reading alone
        try:
            found = self.read(content)
        except ValueError as error:
            self.refused += 1
            if not any(words in str(error) for words in ("the file", "checkpoint", "made anew")):
                self.wrong.append((label, f"unclear: {error}"))
        except Exception as error:  # which would reach the reader as a surprise
            self.wrong.append((label, repr(error)))
        else:
            if not (self.passes(found) if self.passes else found == self.expected):
                self.wrong.append((label, "was read as something else"))
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if taken > 50 * len(content) + _OVERHEAD:
            self.wrong.append((label, f"took {taken:,} bytes"))

    def report(self, refused=0.5):
        """Fail where one went wrong, or where so few were refused that they cannot have been damaged."""
        assert not self.wrong, f"{len(self.wrong)} of {self.count}, among them {self.wrong[:4]}"
        assert self.refused >= refused * self.count


@pytest.fixture
def tried(tmp_path, files, request):
    return Tried(tmp_path, request.param, files)


# --- damaged ----------------------------------------------------------------------------------------------------------


def _damage(content, draw):
    """One of the ways in which files go bad, and its name."""
    data, place = bytearray(content), draw.randrange(len(content))
    length = draw.choice([1, 2, 4, 8, 40, len(content) // 3])
    how = draw.choice(["bit", "bits", "cut", "head", "lost", "more", "twice", "zeros", "noise", "number", "moved"])
    stretch = slice(place, place + length)
    if how == "bit":
        data[place] ^= 1 << draw.randrange(8)
    elif how == "bits":
        for _ in range(draw.randrange(2, 9)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del data[place:]
    elif how == "head":
        del data[: 1 + place]
    elif how == "lost":
        del data[stretch]
    elif how == "more":
        data[place:place] = draw.randbytes(length)
    elif how == "twice":
        data[place:place] = data[stretch]
    elif how == "zeros":
        data[stretch] = bytes(len(data[stretch]))
    elif how == "noise":
        data[stretch] = draw.randbytes(len(data[stretch]))
    elif how == "number":
        number = draw.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1])
        width = draw.choice([1, 2, 4, 8])
        data[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    else:
        other = draw.randrange(len(data))
        data[place : place + length] = data[other : other + length]
    return bytes(data), f"{how} at {place}"


@pytest.mark.parametrize("tried", KINDS, indirect=True)
def test_damaged_files(tried):
    draw = random.Random(tried.kind)
    for number in range(1000 if "imdb" in tried.kind or tried.passes else 500):
        damaged, label = _damage(tried.content, draw)
        if damaged != tried.content:
            tried(damaged, f"{number}: {label}")
    tried.report(refused=0.3)


# --- made to mislead: whole archives with right checksums -------------------------------------------------------------


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


_HEADERS = [
    *(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}" for shape in
      ("(1000000000000,)", "(-1,)", "(-1, -1)", "(0, 10000000000)", "(1e3,)", "3", "(None,)", "()", "(2**70,)",
       "(18446744073709551616,)", "(" * 90 + ")" * 90, "('a',)", "(True, 2)")),
    *(f"{{'descr': {descr}, 'fortran_order': False, 'shape': (2,)}}" for descr in
      ("'|O'", "'|V0'", "'<U1000000000'", "'>f4'", "'<M8[ns]'", "[('a', '|O')]", "[('a', '<f4', (10**9,))]", "'<f2'",
       "'<c8'", "'S0'", "'nothing'", "['<f4']", "__import__('os').system('true')", "('<f4', (100000000,))", "None")),
    "{}", "[]", "{'descr': '<f4'}", "1 if", "{'descr': '<f4', 'fortran_order': 2, 'shape': (2,)}", " " * 65000,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "'" * 9999, "-" * 9999, "[" * 9999,
]  # fmt: skip


def _with_header(header):
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + bytes(8)


@pytest.mark.parametrize("tried", ARCHIVES, indirect=True)
def test_members_that_mislead(tried, tmp_path):
    trace = tmp_path / "trace"
    canary = np.array([Canary(trace)], dtype=object)
    members = _members(tried.content)
    others = {
        "missing": lambda data: None,
        "empty": lambda data: b"",
        "no array": lambda data: b"\x93NUMPY",
        "a pickle": lambda data: pickle.dumps(Canary(trace)),
        "a pickle in an array": lambda data: _npy(canary),
        "a pickle in a field": lambda data: _npy(np.array([(1, Canary(trace))], [("a", "i4"), ("b", "O")])),
        "NaN": lambda data: _npy(np.full(2, np.nan, "f4")),
        "infinity": lambda data: _npy(np.full((5, 2), np.inf, "f4")),
        "text": lambda data: _npy(np.array(["a"])),
        "too much": lambda data: data + bytes(8),
        "too little": lambda data: data[:-1],
        "of another version": lambda data: data[:6] + b"\x09" + data[7:],
        **{header[:60]: lambda data, header=header: _with_header(header) for header in _HEADERS},
    }
    draw = random.Random(tried.kind)
    for label, other in others.items():
        for name in draw.sample(sorted(members), 3):
            changed = members | {name: other(members[name])}
            tried(_archive({n: data for n, data in changed.items() if data is not None}), f"{name}: {label}")
    for form in ("../{}", "/{}", "a/../{}", "C:\\{}", "{}.npy", "\1", 60000 * "a"):
        name = draw.choice(sorted(members))
        renamed = {form.format(name) if own == name else own: data for own, data in members.items()}
        tried(_archive(renamed), f"{name}: {form:.40}")
    for extra in ("../../extra.npy", "extra.npy", "state0/x.npy", "layer9/kernel.npy", "extra.exe"):
        if not tried.kind.startswith("imdb"):  # of which only six members are looked at
            tried(_archive(members | {extra: _npy(np.ones(1))}), f"an extra {extra!r}")
    bomb = _npy(np.zeros(4_000_000))
    name = draw.choice(sorted(members))
    squeezed = _archive(members | {name: bomb}, zipfile.ZIP_DEFLATED)
    assert len(squeezed) < 100_000
    tried(squeezed, f"{name}: a bomb")
    tried.report(refused=0.95)
    assert not trace.exists()
    np.load(io.BytesIO(_npy(canary)), allow_pickle=True)
    assert trace.exists(), "the canary does not sing, so this test could not fail"


# --- descriptions -----------------------------------------------------------------------------------------------------

_VALUES = [
    None, True, False, 0, 1, -1, 2**31, 10**15, 10**400, 0.5, -0.5, 1e300, float("nan"), float("inf"), "", "os.system",
    "Dense", "float16", "__class__", [], {}, [1], [[]], {"class_name": "Dense", "config": {}},
    {"array": "layer0/kernel"}, {"dict": {}},
]  # fmt: skip


def _places(tree, path=()):
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def _changed(tree, path, change):
    """A copy of `tree` in which `change` has done something to the parent of the last of `path`."""
    tree = {"": copy.deepcopy(tree)}
    *above, last = ("", *path)
    parent = tree
    for key in above:
        parent = parent[key]
    change(parent, last)
    return tree.get("")


def _changes():
    def to(value):
        def change(parent, key):
            parent[key] = value

        return change

    def deeper(parent, key):
        for _ in range(400):
            parent[key] = [parent[key]]

    def once_more(parent, key):
        if isinstance(parent, list):
            parent.append(parent[key])
        else:
            parent["x"] = parent[key]

    return {
        **{repr(value)[:40]: to(value) for value in _VALUES},
        "gone": lambda parent, key: parent.pop(key),
        "deeper": deeper,
        "once more": once_more,
    }


class Described(Tried):
    """Changes a description. It may lead to another model, which then is as described, or to an error."""

    def __init__(self, folder, kind, files):
        super().__init__(folder, kind, files)
        self.members = _members(self.content)
        description = self.members["description.npy"]
        self.description = json.loads(description[description.index(b"\n") + 1 :])
        self.passes = lambda found: found[2] == self.expected[2]  # the weights

    def change(self, path, change, label):
        try:
            text = json.dumps(_changed(self.description, path, change)).encode()
        except ValueError:
            return  # it has more digits than Python writes
        if text != json.dumps(self.description).encode():
            changed = {"description.npy": _npy(np.frombuffer(text, np.uint8))}
            self(_archive(self.members | changed), f"{'/'.join(map(str, path))} {label}")


@pytest.fixture
def described(tmp_path, files, request):
    return Described(tmp_path, request.param, files)


@pytest.mark.parametrize("described", ["model", "graph", "checkpoint"], indirect=True)
def test_descriptions_that_mislead(described):
    draw, changes = random.Random(0), _changes()
    of_each = {"model": 4, "graph": 2, "checkpoint": 2}[described.kind]  # which takes longer to read
    for path in _places(described.description):
        once = path[:2] == ("settings", "model")  # of a checkpoint: a model's own file has the same places
        for label in draw.sample(sorted(changes), 1 if once else of_each):
            described.change(path, changes[label], label)
    described.report(refused=0.5)
