"""The fast recurrences and what they share; `scratchlstm.gates` is the textbook they are tested against."""
