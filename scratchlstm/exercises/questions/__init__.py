"""The questions, one file an exercise, in the order in which they are asked."""

ORDER = (
    "slopes",
    "output_gate",
    "cell",
)
