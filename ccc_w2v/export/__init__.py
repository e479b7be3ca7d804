"""Checkpoints for unmodified fairseq and for Hugging Face transformers."""
