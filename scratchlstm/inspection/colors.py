"""Colours that colour-blind readers can tell apart, and dashes for those who print in grey."""

# blue, vermilion, bluish green, purple, orange, sky blue, black of Okabe & Ito's palette
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dashed", "dashdot", "dotted", (0, (5, 1, 1, 1, 1, 1)))
