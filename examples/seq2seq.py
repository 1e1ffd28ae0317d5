"""Dates as people write them become ISO dates: an encoder reads the characters, a decoder writes 1998-03-03.

python examples/seq2seq.py                               train without attention and with it, and compare
python examples/seq2seq.py --text "3rd of march 1998"    translate your own date with the model of the last run

An LSTM reads the text; its last states are the initial states of another LSTM, which writes. With attention the writer
also looks back: at each step it takes a weighted mean of the reader's outputs at all characters.
"""

import argparse
from calendar import day_abbr, day_name, month_abbr, month_name
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from command_line import example_parser, in_one_line
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scratchlstm import Model, backend
from scratchlstm._support.drawing import AHEAD, BACK, QUIET, THIRD, in_style
from scratchlstm.layers import LSTM, Attention, Concatenate, Dense, Embedding, Input
from scratchlstm.models.decoding import greedy
from scratchlstm.optimizers import Adam
from scratchlstm.preprocessing.sequence import pad_sequences
from scratchlstm.schedules import CosineDecay
from scratchlstm.utils import atomic_write, held_folder

READ = " ',-./0123456789abcdefghijklmnopqrstuvwxyz"  # ids from 1 on; 0 is padding
WRITTEN = "$-0123456789"  # ids from 0 on; $ begins and ends a date
SHOWN = "tuesday, march 3rd, 1998"
FIRST, DAYS = date(1900, 1, 1), 73_049  # to the end of 2099
STEPS = len("1998-03-03$")
SPANS = {"year": (0, 4), "month": (5, 7), "day": (8, 10)}  # in an ISO date
COLORS = {"year": AHEAD, "month": BACK, "day": THIRD, "": QUIET}


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        path = folder / "model.npz"
        if options.text is None or not path.exists():
            experiment(folder, options)
        with in_one_line(ValueError):
            model = Model.load(path).to(options.backend)
        text = options.text or SHOWN
        (iso,), weights = translate(model, [text])
        print(f"{text} -> {iso}")
        with atomic_write(folder / "alignment.png") as file:
            draw(text, iso, weights[0]).savefig(file, dpi=150)
        print(f"written to {folder}/: alignment.png, model.npz")


def experiment(folder: Path, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)
    train, test, epochs = (640, 64, 1) if options.quick else (20_000, 2_000, 4)

    # 1. No day of the test is in training, in whatever style it is written
    days = rng.permutation(DAYS)
    texts, isos = write_dates(days[test:], train, rng)
    test_texts, test_isos = write_dates(days[:test], test, rng)
    read, written = read_ids(texts), written_ids(isos)
    print(f"{train:,} dates to train with, such as {'; '.join(texts[:4])}")

    # 2. Teacher forcing: the decoder is given the right characters so far, and learns to predict the next one
    given, target = written[:, :-1], written[:, 1:]
    for attention in (False, True):
        model = build_model(attention, options)
        steps = epochs * -(-train // 64)
        model.compile(
            Adam(CosineDecay(0.004, steps), clipnorm=1.0), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        model.fit([read, given], target, 64, epochs, verbose=2, workers=None if options.quick else "auto")

        # 3. On its own it has only the characters that it wrote itself
        answers, _ = translate(model, test_texts)
        wrong = [row for row in zip(test_texts, answers, test_isos, strict=True) if row[1] != row[2]]
        name = "with attention" if attention else "without attention"
        print(f"{name}: {1 - len(wrong) / test:.2%} of {test:,} dates are right in every character")
        for text, answer, iso in wrong[:3]:
            print(f"    wrong: {text} -> {answer}, not {iso}")
    model.save(folder / "model.npz")


def build_model(attention: bool, options: argparse.Namespace) -> Model:
    size, units = (16, 32) if options.quick else (32, 128)
    text, so_far = Input((None,), name="text"), Input((None,), name="so_far")
    letters = Embedding(1 + len(READ), size, mask_zero=True, name="letters")(text)
    read, *states = LSTM(units, return_sequences=True, return_state=True, name="reader")(letters)
    digits = Embedding(len(WRITTEN), size, name="digits")(so_far)
    h, *_ = LSTM(units, return_sequences=True, return_state=True, name="writer")(digits, initial_state=states)
    if attention:
        h = Concatenate(name="both")([h, Attention(name="attention")([h, read])])
    p = Dense(len(WRITTEN), activation="softmax", name="next")(h)
    return Model([text, so_far], p, seed=options.seed, backend=options.backend)


def translate(model: Model, texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """ISO dates, and how much attention each of their characters gave to those of the text: (B, T, longest text)."""
    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    x = read_ids(texts)
    mask = x > 0
    read, *states = layers["reader"](layers["letters"](x), mask=mask)
    weights = []

    def step(given: list[Any]) -> list[Any]:
        tokens, *states = given
        h, *states = layers["writer"](layers["digits"](tokens), initial_state=states)
        if "attention" in layers:
            seen, weight = layers["attention"]([h, read], mask=[None, mask], return_attention_scores=True)
            weights.append(backend.host(weight))
            h = layers["both"]([h, seen])
        return [layers["next"](h), *states]

    ids, _ = greedy(step, start=0, states=states, steps=STEPS, end=0)
    isos = ["".join(WRITTEN[i] for i in row).split("$")[0] for row in ids]
    return isos, np.concatenate(weights, axis=1) if weights else np.empty(0)


@in_style
def draw(text: str, iso: str, weights: np.ndarray) -> Figure:
    """The text along x, the date along y: the stronger the colour, the more a written character owes to a read one."""
    shade = weights[: len(iso), : len(text)]
    figure = Figure(figsize=(0.22 * len(text) + 1.6, 3.9), layout="constrained")
    panel = figure.subplots()
    for (row, column), weight in np.ndenumerate(shade):
        if weight > 0.02:
            corner = column - 0.5, row - 0.5
            panel.add_patch(Rectangle(corner, 1, 1, color=COLORS[part_of(row)], alpha=float(weight), linewidth=0))
    panel.set(xlim=(-0.5, len(text) - 0.5), ylim=(len(iso) - 0.5, -0.5))
    panel.set_xticks(range(len(text)), list(text), family="monospace", size=13)
    panel.set_yticks(range(len(iso)), list(iso), family="monospace", size=13)
    for row, tick in enumerate(panel.get_yticklabels()):
        tick.set_color(COLORS[part_of(row)])
    for part, (start, stop) in SPANS.items():
        at = (1.01, (start + stop - 1) / 2)
        panel.annotate(part, at, xycoords=panel.get_yaxis_transform(), color=COLORS[part], va="center")
    panel.set_xticks(np.arange(len(text)) - 0.5, minor=True)
    panel.set_yticks(np.arange(len(iso)) - 0.5, minor=True)
    panel.grid(which="minor", linewidth=0.5)
    panel.tick_params(which="both", length=0)
    panel.set(xlabel="read", ylabel="written")
    figure.suptitle("Where the writer looks for each character")
    return figure


def part_of(row: int) -> str:
    """The part of an ISO date that the character at this position belongs to."""
    return next((part for part, (start, stop) in SPANS.items() if start <= row < stop), "")


# --- dates ------------------------------------------------------------------------------------------------------------

STYLES = [
    *("{th} of {month} {yyyy}", "the {th} of {month}, {yyyy}", "{d} {month} {yyyy}", "{d} {mon} {yyyy}"),
    *("{month} {d}, {yyyy}", "{month} {th}, {yyyy}", "{mon} {d}, {yyyy}", "{mon}. {d}, {yyyy}", "{mon} {th} {yyyy}"),
    *("{d}-{mon}-{yy}", "{d} {mon} '{yy}", "{month} {d} {yy}", "{yyyy}, {month} {th}", "{yyyy} {mon} {d}"),
    *(
        "{wd}, {d} {mon} {yyyy}",
        "{wd} {mon} {d} {yyyy}",
        "{weekday}, {d} {mon} {yyyy}",
        "{weekday}, {month} {th}, {yyyy}",
    ),
    *("{dd}.{mm}.{yyyy}", "{d}.{m}.{yy}", "{yyyy}/{mm}/{dd}", "{yyyy}-{m}-{d}"),
    *("{mm}/{dd}/{yyyy}", "{dd}/{mm}/{yyyy}", "{m}/{d}/{yy}", "{d}/{m}/{yy}"),
]
LONGEST = len("wednesday, september 23rd, 1998")


def write_dates(days: np.ndarray, count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Dates as people write them, and as ISO dates: any of these days since FIRST, in any style."""
    dates = [FIRST + timedelta(int(day)) for day in rng.choice(days, size=count)]
    return [write(day, rng) for day in dates], [day.isoformat() for day in dates]


def write(day: date, rng: np.random.Generator) -> str:
    """A date in a style that makes it unambiguous."""
    styles = [style for style in STYLES if is_clear(style, day)]
    d, month = day.day, month_name[day.month]
    ending = "th" if 10 < d < 20 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    mon = "sept" if month == "September" and rng.random() < 0.5 else month_abbr[day.month]
    text = styles[rng.integers(len(styles))].format(
        d=d, dd=f"{d:02}", th=f"{d}{ending}", m=day.month, mm=f"{day.month:02}", mon=mon, month=month,
        yyyy=day.year, yy=f"{day.year % 100:02}", wd=day_abbr[day.weekday()], weekday=day_name[day.weekday()],
    )  # fmt: skip
    return text.lower()


def is_clear(style: str, day: date) -> bool:
    """Two digits are a year from 1969 to 2068, as POSIX reads them; with day and month in either order, one is > 12."""
    either_order = style.endswith(("/{yyyy}", "/{yy}"))
    return ("{yy}" not in style or 1969 <= day.year <= 2068) and (
        not either_order or day.day > 12 or day.day == day.month
    )


def read_ids(texts: Sequence[str]) -> np.ndarray:
    return pad_sequences([[1 + READ.index(letter) for letter in text] for text in texts], padding="post")


def written_ids(isos: Sequence[str]) -> np.ndarray:
    """(N, 12), with a sign before and after."""
    return np.array([[WRITTEN.index(letter) for letter in f"${iso}$"] for iso in isos])


def written_date(text: str) -> str:
    """The type of an option for a date: in lower case."""
    text = " ".join(text.lower().split())
    if unknown := set(text) - set(READ):
        raise argparse.ArgumentTypeError(f"the model reads letters, digits and {READ[:6]!r}, but not {min(unknown)!r}")
    if not 0 < len(text) <= LONGEST:
        raise argparse.ArgumentTypeError(f"must be a date of 1 to {LONGEST} characters, not {text!r}")
    return text


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/seq2seq")
    parser.add_argument("--text", type=written_date, help='a date to translate, such as "3rd of march 1998"')
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
