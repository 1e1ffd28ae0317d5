"""The questions, one file per exercise, in the order in which they are asked."""

ORDER = (
    "slopes",
    "forward",
    "hidden_state",
    "cell",
    "cell_inputs",
    "pre_activations",
    "products",
    "step",
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
    "adding_problem",
)
