"""Language models: n-grams, causal networks, rescoring, and the search for their weights."""
