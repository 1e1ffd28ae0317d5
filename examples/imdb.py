"""Sentiment of IMDB reviews with an LSTM: the well-known Keras tutorial, with a network written from scratch.

python examples/imdb.py                        train, plot, save, show some predictions
python examples/imdb.py --dropout 0.5          less overfitting
python examples/imdb.py --resume               continue a stopped run (the other options as before)
python examples/imdb.py --predict TEXT         score a sentence with the saved model
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from command_line import add_backend, fail, in_one_line, named, reviews_path, sentence, whole, workers

from scratchlstm import Sequential
from scratchlstm.callbacks import Checkpoint
from scratchlstm.datasets import imdb
from scratchlstm.datasets.imdb_sources import SOURCES
from scratchlstm.datasets.vocabulary import read_vocabulary
from scratchlstm.inspection import learning_curve
from scratchlstm.layers import LSTM, Dense, Dropout, Embedding
from scratchlstm.layers.fused import IMPLEMENTATIONS
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.utils import atomic_write, held_folder

SENTENCE = "a wonderful film, I loved every minute"


def main() -> int:
    options = parse_options()
    folder = Path(options.output)
    if options.predict is not None:
        return predict(folder, options.predict)
    with held_folder(folder):
        return train(folder, options)


def train(folder: Path, options: argparse.Namespace) -> int:
    # 1. Data: reviews as lists of word ranks, cut and padded to one length
    with in_one_line(ValueError, ModuleNotFoundError):
        (X_train, y_train), (X_test, y_test) = imdb.load_data(
            options.path, num_words=options.words, source=options.source
        )
        ranks = imdb.get_word_index(options.path, source=options.source)
    texts = X_test[: options.samples]
    X_train, y_train = X_train[: options.samples], y_train[: options.samples]
    X_test, y_test = X_test[: options.samples], y_test[: options.samples]
    X_train = pad_sequences(X_train, maxlen=options.maxlen)
    X_test = pad_sequences(X_test, maxlen=options.maxlen)
    print(f"X_train {X_train.shape}, X_test {X_test.shape}")

    # 2. Model
    model = Sequential(seed=options.seed, backend=options.backend)
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
    checkpoint = folder / "checkpoint.npz"
    try:
        # Numba is missing, or the checkpoint belongs to another run or is damaged
        with in_one_line(ImportError, *[ValueError] if options.resume else []):
            model.fit(
                X_train,
                y_train,
                batch_size=options.batch_size,
                epochs=options.epochs,
                validation_data=(X_test, y_test),
                verbose=options.verbose,
                workers=options.workers,
                callbacks=[Checkpoint(checkpoint)],
                resume=checkpoint if options.resume else None,
            )
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt}")
    if model.history is None or not model.history.epoch:
        print("no epoch was completed: nothing to save")
        return 130
    history = model.history.history

    # 4. The results: the model, the words it knows, the history, the learning curve
    model.save(folder / "model.npz")
    known = {word: rank for word, rank in ranks.items() if rank < options.words}
    vocabulary = {"maxlen": options.maxlen, "num_words": options.words, "words": known}
    write_json(folder / "vocabulary.json", vocabulary)
    write_json(folder / "history.json", history)
    title = f"IMDB reviews, LSTM {options.units}" + (f", dropout {options.dropout}" if options.dropout else "")
    with atomic_write(folder / "learning_curve.png") as file:
        learning_curve(history, title=title).savefig(file, dpi=150)

    # 5. The saved model is the same model
    reloaded = Sequential.load(folder / "model.npz").to(model.backend)
    probabilities = model.predict(X_test, verbose=0)
    if not np.array_equal(reloaded.predict(X_test, verbose=0), probabilities):
        raise SystemExit(f"the model reloaded from {folder / 'model.npz'} predicts differently")

    # 6. A look at some reviews
    print("\nprobability of a positive review | label | the review's last words")
    for review, label, probability in list(zip(texts, y_test, probabilities[:, 0], strict=True))[:8]:
        words = imdb.decode_review(review[-14:], word_index=ranks)
        print(f"{probability:33.3f}|{'positive' if label else 'negative':>9}| ...{words}")
    print("\n" + what_the_curve_shows(history))
    print(f"\nwritten to {folder}/: checkpoint.npz, history.json, learning_curve.png, model.npz, vocabulary.json")
    print(f'try: python examples/imdb.py --output {folder} --predict "{SENTENCE}"')
    print(f'or watch the cell read it: python -m scratchlstm explore {folder}/model.npz "{SENTENCE}"')
    return 0


def predict(folder: Path, text: str) -> int:
    """Score one sentence with the model that an earlier run saved."""
    try:
        model = Sequential.load(folder / "model.npz")
        saved = read_vocabulary(folder / "vocabulary.json")
        sizes = model.input_shape, getattr(model.layers[0], "input_dim", None)
        if sizes != ((saved["maxlen"],), saved["num_words"]):
            raise ValueError(f"model.npz and vocabulary.json in {str(folder)!r} are not from the same run")
    except (OSError, ValueError) as error:
        fail(f"{error}; train first, without --predict")
    ids = imdb.encode_review(text, num_words=saved["num_words"], word_index=saved["words"])
    probability = model.predict(pad_sequences([ids], maxlen=saved["maxlen"]), verbose=0)[0, 0]
    print(f"{probability:.3f} probability of a positive review")
    print(f"read as: {imdb.decode_review(ids, word_index=saved['words'])}")
    return 0


def what_the_curve_shows(history: dict[str, list[float]]) -> str:
    """The best epoch, and how far training and validation have diverged by the end."""
    rounded = {name: [round(value, 4) for value in values] for name, values in history.items()}
    train_loss, loss, accuracy = rounded["loss"], rounded["val_loss"], rounded["val_accuracy"]
    lowest, highest = int(np.argmin(loss)), int(np.argmax(accuracy))
    train_accuracy = rounded["accuracy"][-1]
    gap = train_accuracy - accuracy[-1]
    compared = f"{abs(gap):.4f} {'above' if gap > 0 else 'below'}" if gap else "the same as"
    lines = [
        f"lowest validation loss {loss[lowest]:.4f} in epoch {lowest + 1}, "
        f"best validation accuracy {accuracy[highest]:.4f} in epoch {highest + 1}",
        f"at the end training accuracy {train_accuracy:.4f} is {compared} validation accuracy {accuracy[-1]:.4f}",
    ]
    if loss[-1] > loss[lowest] and train_loss[-1] < train_loss[lowest]:
        lines.append(
            f"from epoch {lowest + 1} to {len(loss)} the validation loss rises, {loss[lowest]:.4f} to {loss[-1]:.4f}, "
            f"while the training loss falls, {train_loss[lowest]:.4f} to {train_loss[-1]:.4f}: the model overfits"
        )
    return "\n".join(lines)


def write_json(path: Path, content: object) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode())


# --- options ----------------------------------------------------------------------------------------------------------


def parse_options() -> argparse.Namespace:
    positive = whole(1)
    parser = argparse.ArgumentParser(description="Train an LSTM on IMDB reviews")
    parser.add_argument("--epochs", type=positive, default=5)
    parser.add_argument("--batch-size", type=positive, default=128)
    parser.add_argument("--maxlen", type=positive, default=100, help="words read of each review, counted from its end")
    parser.add_argument(
        "--words", type=whole(5), default=20000, help="size of the vocabulary; ids 0 to 3 are not words"
    )
    parser.add_argument("--units", type=positive, default=60, help="size of the LSTM's state")
    parser.add_argument("--dropout", type=rate, default=0.0, help="rate after the embedding and after the LSTM")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--source", choices=SOURCES, default="auto", help="where the reviews come from")
    parser.add_argument("--path", type=reviews_path, help="an imdb.npz or an unpacked aclImdb folder to read instead")
    parser.add_argument("--samples", type=positive, help="use only this many training and this many test reviews")
    parser.add_argument("--output", type=named, default="runs/imdb", help="folder for the results of the run")
    parser.add_argument("--resume", action="store_true", help="continue the stopped run in the output folder")
    told = "the implementation of the LSTM (docs/fast.md); fused is the fastest available"
    parser.add_argument("--implementation", choices=IMPLEMENTATIONS, default="fused", help=told)
    told = "processes; auto is one if the LSTM runs compiled loops, otherwise one for each core"
    parser.add_argument("--workers", default="auto", type=workers, help=told)
    add_backend(parser)
    parser.add_argument("--verbose", type=int, choices=(0, 1, 2), default=1)
    parser.add_argument(
        "--predict", metavar="TEXT", type=sentence, help="score TEXT with the saved model instead of training"
    )
    return parser.parse_args()


def rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0 and below 1, not {text!r}")
    return number


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        sys.exit(main())
