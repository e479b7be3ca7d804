"""One HTML page on one or more systems: errors, alignments, audio, plots."""
