"""Sentiment of IMDB reviews, as well as an LSTM trained from scratch can: adversarial training in minutes on a CPU.

python examples/imdb_best.py                      train, draw, save, explain a sentence; 5,000 reviews are held out
python examples/imdb_best.py --path aclImdb       train on all of its 25,000 training reviews, test once on the others
python examples/imdb_best.py --without bigrams    the same without one ingredient, to see what it is worth
python examples/imdb_best.py --baseline           also train logistic regression on word pairs and triples
python examples/imdb_best.py --resume             continue a stopped run (the other options as before)
python examples/imdb_best.py --predict TEXT       score a sentence, and say which words moved the answer
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from command_line import add_backend, fail, in_one_line, named, reviews_path, sentence, whole, workers

from scratchlstm import Input, Model
from scratchlstm.callbacks import Checkpoint, SwapEMAWeights
from scratchlstm.datasets import imdb
from scratchlstm.inspection import learning_curve
from scratchlstm.layers import (
    LSTM,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    MaskedGlobalMaxPooling1D,
    SpatialDropout1D,
    WordDropout,
)
from scratchlstm.optimizers import Adam
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.preprocessing.text import Tokenizer, ngrams
from scratchlstm.schedules import CosineDecay
from scratchlstm.training import AdversarialTraining
from scratchlstm.utils import atomic_write, held_folder

SENTENCE = "not a good film, but I loved every minute of it!"
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[!?]")
# must be the same in runs that are compared
SETTING = "epochs", "batch_size", "maxlen", "words", "bigrams", "units", "seed", "samples"
UNKNOWN = "[unknown]"  # not equal to any word
INGREDIENTS = {
    "adversarial": "the second pass, through perturbed embeddings",
    "average": "the running average of the weights",
    "bigrams": "pairs of words, with a table of their own",
    "dropout": "dropped words, features and outputs",
    "pooling": "mean and maximum over time; without it, only the last state",
    "backward": "the LSTM that reads from the end",
    "schedule": "the learning rate's warm-up and decay",
}


def main() -> int:
    options = parse_options()
    options.without = sorted(set(options.without))
    folder = Path(options.output) / "-".join(["without", *options.without] if options.without else [])
    if options.predict is not None:
        return predict(folder, options.predict)
    if options.baseline:
        scikit_learn()
    with held_folder(folder):
        return train(folder, options)


def train(folder: Path, options: argparse.Namespace) -> int:
    without = set(options.without)

    # 1. Data: each review as its words, and as the pair of words that ends at each of them
    with in_one_line(ValueError, ModuleNotFoundError):
        (texts, labels), (test_texts, test_labels) = imdb.load_texts(options.path)
    texts, labels = texts[: options.samples], labels[: options.samples]
    test_texts, test_labels = test_texts[: options.samples], test_labels[: options.samples]
    reader = Reader.of(texts, options.maxlen, options.words, *([] if "bigrams" in without else [options.bigrams]))
    if not reader.known[0]:
        fail("there is no word in the reviews to train on")
    x, x_test = reader.read(texts), reader.read(test_texts)
    held_out = options.path is None  # reviews to choose settings by; those of an aclImdb folder are for a single test
    print(f"{len(labels):,} reviews to train on, {len(test_labels):,} {'held out' if held_out else 'to test on, once'}")

    # 2. Model
    steps = options.epochs * -(-len(labels) // options.batch_size)
    model = build(reader, options.units, without, seed=options.seed, backend=options.backend)
    model.compile(adam(steps, without), loss="binary_crossentropy", metrics=["accuracy"])
    model.summary()

    # 3. Training: from a fifth of the steps on, each also learns from the perturbation that hurts most
    worst = None if "adversarial" in without else AdversarialTraining(epsilon=0.06, first_step=steps // 5)
    checkpoint = folder / "checkpoint.npz"
    try:
        with in_one_line(
            *[ValueError] if options.resume else []
        ):  # the checkpoint belongs to another run or is damaged
            model.fit(
                x,
                labels,
                batch_size=options.batch_size,
                epochs=options.epochs,
                validation_data=(x_test, test_labels) if held_out else None,
                verbose=options.verbose,
                workers=options.workers,
                callbacks=[Checkpoint(checkpoint), *([] if "average" in without else [SwapEMAWeights()])],
                resume=checkpoint if options.resume else None,
                adversarial=worst,
                group_by_length=True,
            )
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt}; --resume continues it")
        return 130
    loss, accuracy = model.evaluate(x_test, test_labels, group_by_length=True, verbose=0)

    # 4. Results: the model, its words, the curve
    assert model.history is not None
    history = model.history.history
    model.save(folder / "model.npz")
    write_json(folder / "vocabulary.json", {"known": reader.known, "maxlen": reader.maxlen})
    reviews = f"{len(test_labels):,} {'held-out' if held_out else 'test'} reviews"
    setting = {name: getattr(options, name) for name in SETTING}
    results = {"without": options.without, "setting": setting, "reviews": reviews, "accuracy": accuracy, "loss": loss}
    write_json(folder / "results.json", results | {"history": history})
    with atomic_write(folder / "learning_curve.png") as file:
        title = f"IMDB reviews, from scratch: {accuracy:.4f} of {reviews}"
        learning_curve(history, title=title).savefig(file, dpi=150)

    print(f"\naccuracy {accuracy:.4f}, loss {loss:.4f} on {reviews}")
    print(what_each_is_worth(Path(options.output), results))
    if options.baseline:
        try:
            right = baseline(texts, labels, test_texts, test_labels)
        except ValueError as error:
            fail(f"--baseline has too little to learn from in {len(labels):,} reviews: {error}")
        print(f"logistic regression on single words, pairs and triples, weighted by their log-count ratio: {right:.4f}")
    print(f"\n{SENTENCE}")
    explain(model, reader, SENTENCE)
    print(f"\nwritten to {folder}/: checkpoint.npz, learning_curve.png, model.npz, results.json, vocabulary.json")
    return 0


def build(reader: "Reader", units: int, without: set[str], **options: Any) -> Model:
    """The model: embeddings of words and pairs, a bidirectional LSTM, and its mean and maximum over time."""
    rates = (0.0, 0.0, 0.0) if "dropout" in without else (0.1, 0.2, 0.5)
    inputs, embedded = [], []
    for name, size, known in zip(("words", "bigrams"), (96, 32), reader.known, strict=False):
        ids = Input((None,), name=name)
        inputs.append(ids)
        embedded.append(Embedding(len(known) + 2, size, mask_zero=True)(WordDropout(rates[0])(ids)))
    x = Concatenate()(embedded) if len(embedded) > 1 else embedded[0]
    x = SpatialDropout1D(rates[1])(x)
    pooled = "pooling" not in without
    lstm = LSTM(units, return_sequences=pooled)
    h = lstm(x) if "backward" in without else Bidirectional(lstm)(x)
    if pooled:
        h = Concatenate()([GlobalAveragePooling1D()(h), MaskedGlobalMaxPooling1D()(h), GlobalAveragePooling1D()(x)])
    return Model(inputs, Dense(1, activation="sigmoid")(Dropout(rates[2])(h)), **options)


def adam(steps: int, without: set[str]) -> Adam:
    """Adam, whose rate rises for a twelfth of the steps and then falls to 5 %; and the average of the weights."""
    warm_up = steps // 12
    rate = CosineDecay(0.0, max(steps - warm_up, 1), alpha=0.05, warmup_target=2e-3, warmup_steps=warm_up)
    return Adam(1e-3 if "schedule" in without else rate, use_ema="average" not in without)


class Reader:
    """Turns texts into ids: of each word, and of the pair that ends at it; 0 is padding, 1 is unknown.

    Args:
        known: the known words, the most frequent first; then the pairs, if the model is to see them.
        maxlen: how many words of a text are read, counted from its end.
    """

    def __init__(self, known: list[list[str]], maxlen: int) -> None:
        self.known, self.maxlen = known, maxlen
        self.tokenizers = [Tokenizer(filters="", oov_token=UNKNOWN) for _ in known]
        for tokenizer, tokens in zip(self.tokenizers, known, strict=True):
            tokenizer.fit_on_texts([tokens])  # each once, which keeps their order

    @classmethod
    def of(cls, texts: list[str], maxlen: int, *sizes: int) -> "Reader":
        """A reader of the most frequent words of these texts and, with a second size, of the most frequent pairs."""
        known = []
        for n, size in enumerate(sizes, 1):
            tokenizer = Tokenizer(filters="")
            tokenizer.fit_on_texts(grams(texts, n))
            known.append(list(tokenizer.word_index)[:size])
        return cls(known, maxlen)

    def read(self, texts: list[str]) -> list[np.ndarray]:
        """Ids (N, T) for each input of the model; T is `maxlen`, or the length of the longest text."""
        ids = [each.texts_to_sequences(grams(texts, n)) for n, each in enumerate(self.tokenizers, 1)]
        return [pad_sequences(each, maxlen=min(self.maxlen, max(map(len, ids[0])) or 1)) for each in ids]


def grams(texts: list[str], n: int) -> Iterator[list[str]]:
    """For each text, the n words that end at each of its words."""
    return (ngrams(words_of(text), n) for text in texts)


def words_of(text: str) -> list[str]:
    """Words, and the punctuation marks that tell how they are meant."""
    return WORD.findall(text.lower().replace("<br />", " "))


# --- results ----------------------------------------------------------------------------------------------------------


def explain(model: Model, reader: Reader, text: str) -> None:
    """Print the answer and how far each word has moved it: how much the log-odds fall without the word."""
    words = words_of(text)[-reader.maxlen :]
    fewer = [words[:k] + words[k + 1 :] for k in range(len(words))]
    texts = [" ".join(some) for some in (words, *fewer)]
    probabilities = model.predict(reader.read(texts), verbose=0)[:, 0].clip(1e-7, 1 - 1e-7)
    log_odds = np.log(probabilities / (1 - probabilities))
    print(f"{probabilities[0]:.3f} probability of a positive review; how far each word has moved its log-odds:")
    for word, moved in zip(words, log_odds[0] - log_odds[1:], strict=True):
        bar = "█" * min(round(4 * abs(moved)), 20)
        print(f"{bar if moved < 0 else '':>20} {word:^12} {bar if moved > 0 else '':<20} {moved:+.2f}")


def predict(folder: Path, text: str) -> int:
    """Score one sentence with the model that an earlier run saved, and explain the answer."""
    try:
        model = Model.load(folder / "model.npz")
        reader = read_vocabulary(folder / "vocabulary.json")
        tables = [layer.input_dim for layer in model.layers if isinstance(layer, Embedding)]
        if tables != [len(known) + 2 for known in reader.known]:
            raise ValueError(f"model.npz and vocabulary.json in {str(folder)!r} are not from the same run")
    except (OSError, ValueError) as error:
        fail(f"{error}; train first, without --predict")
    if not set(words_of(text)) & set(reader.known[0]):
        fail(f"none of the {len(reader.known[0]):,} words that the model knows is in {text!r}")
    explain(model, reader, text)
    return 0


def read_vocabulary(path: Path) -> Reader:
    try:
        saved = json.loads(path.read_bytes())
        if not all(isinstance(token, str) for tokens in saved["known"] for token in tokens) or not saved["known"]:
            raise ValueError("what is known must be words")
        return Reader(saved["known"], whole(1)(str(saved["maxlen"])))
    except (ValueError, TypeError, KeyError, RecursionError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"{str(path)!r} is not the vocabulary of such a run: {error!r:.80}") from error


def what_each_is_worth(root: Path, results: dict[str, Any]) -> str:
    """The accuracy of every run in this folder that differs from this one only in what it omits."""
    rows = {}
    for path in [root / "results.json", *sorted(root.glob("without-*/results.json"))]:
        with suppress(OSError, ValueError, TypeError, KeyError):  # no such run yet, or not one of ours
            other = json.loads(path.read_bytes())
            if all(other[name] == results[name] for name in ("setting", "reviews")):
                rows["-".join(other["without"])] = float(other["accuracy"])
    lines = ["without"]
    for name, accuracy in rows.items():
        change = f" {accuracy - rows['']:+.4f}" if name and "" in rows else ""
        lines.append(f"  {name or 'nothing':<24} {accuracy:.4f}{change}")
    if rows.keys() == {""}:
        lines.append(f"  (--without {next(iter(INGREDIENTS))} tells what that is worth; others are in --help)")
    return "\n".join(lines)


def baseline(texts: list[str], labels: np.ndarray, test_texts: list[str], test_labels: np.ndarray) -> float:
    """The accuracy of logistic regression on words, pairs and triples (Wang and Manning, 2012): no order, no memory.

    Each is weighted by the logarithm of how much more frequent it is in positive reviews than in negative ones.
    """
    count_vectorizer, logistic_regression = scikit_learn()
    count = count_vectorizer(analyzer=up_to_three, binary=True, min_df=2)
    x, x_test = count.fit_transform(texts), count.transform(test_texts)
    positive, negative = (1 + np.asarray(x[labels == label].sum(axis=0))[0] for label in (1, 0))
    weights = np.log(positive / positive.sum()) - np.log(negative / negative.sum())
    x, x_test = (each.multiply(weights).tocsr() for each in (x, x_test))
    model = logistic_regression(C=4, solver="liblinear", dual=True, max_iter=1000).fit(x, labels)
    return float(model.score(x_test, test_labels))


def scikit_learn() -> tuple[Any, Any]:
    """The parts of scikit-learn that the baseline uses."""
    try:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        fail(f"--baseline needs scikit-learn: pip install 'scratchlstm[baseline]' ({error})")
    return CountVectorizer, LogisticRegression


def up_to_three(text: str) -> list[str]:
    words = words_of(text)
    return [gram for n in (1, 2, 3) for gram in ngrams(words, n)]


def write_json(path: Path, content: object) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode())


# --- options ----------------------------------------------------------------------------------------------------------


def parse_options() -> argparse.Namespace:
    positive = whole(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = "; ".join(f"{name}: {what}" for name, what in INGREDIENTS.items())
    told = f"omit an ingredient; may be given several times ({told})"
    parser.add_argument("--without", action="append", choices=INGREDIENTS, default=[], help=told)
    parser.add_argument("--epochs", type=positive, default=3)
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--maxlen", type=positive, default=400, help="words read of each review, counted from its end")
    parser.add_argument("--words", type=positive, default=30_000, help="how many words have a vector of their own")
    parser.add_argument("--bigrams", type=positive, default=100_000, help="and how many pairs of words")
    parser.add_argument("--units", type=positive, default=64, help="size of each LSTM's state")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--path", type=reviews_path, help="an unpacked aclImdb folder to read instead")
    parser.add_argument("--samples", type=positive, help="use only this many training and this many other reviews")
    parser.add_argument("--output", type=named, default="runs/imdb_best", help="folder for the results of the run")
    parser.add_argument("--resume", action="store_true", help="continue the stopped run in the output folder")
    parser.add_argument("--baseline", action="store_true", help="logistic regression as well; needs scikit-learn")
    told = "processes; auto is one if the LSTM runs compiled loops, otherwise one for each core"
    parser.add_argument("--workers", default="auto", type=workers, help=told)
    add_backend(parser)
    parser.add_argument("--verbose", type=int, choices=(0, 1, 2), default=1)
    parser.add_argument("--predict", metavar="TEXT", type=sentence, help="score TEXT instead of training")
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        sys.exit(main())
