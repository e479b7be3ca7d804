"""What is in a checkpoint: reading, importing, fairseq's plain form, provenance, parity."""
