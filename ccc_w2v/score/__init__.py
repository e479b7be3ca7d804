"""From references and hypotheses to error rates, intervals and significance; knows nothing of fairseq."""
