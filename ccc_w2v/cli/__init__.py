"""`ccc-w2v SUBCOMMAND`: one module for each, thin, and no torch before the arguments are read."""
