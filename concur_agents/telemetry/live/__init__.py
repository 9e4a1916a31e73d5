"""The parts of a live view in a terminal: what is shown, how it is drawn, and where it is painted."""
