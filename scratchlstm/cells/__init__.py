"""Recurrent cells by hand, forward and backward."""
