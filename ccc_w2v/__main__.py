"""`python -m ccc_w2v` prints the folder to give to fairseq as common.user_dir, wherever the package is installed."""

from pathlib import Path

print(Path(__file__).resolve().parent)
