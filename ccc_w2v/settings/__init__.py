"""The settings of a training that this package adds to fairseq's: dataclasses, and what is refused of them."""
