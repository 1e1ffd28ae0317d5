"""The questions, one file an exercise, in the order in which they are asked."""

ORDER = (
    "slopes",
    "output_gate",
    "cell",
    "adam",
    "gradient_check",
    "precision",
    "peephole",
    "find_the_bug",
)
