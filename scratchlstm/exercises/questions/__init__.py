"""The questions, one file an exercise, in the order in which they are asked."""

ORDER = (
    "slopes",
    "output_gate",
    "cell",
    "loop",
    "every_step",
    "masks",
    "truncated",
    "embedding",
    "dense",
    "adam",
    "gradient_check",
    "precision",
    "peephole",
    "find_the_bug",
)
