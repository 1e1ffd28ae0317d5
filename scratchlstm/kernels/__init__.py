"""The fast recurrences and what they share; they are tested against the textbook, `scratchlstm.gates`."""
