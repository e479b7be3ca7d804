"""The comparison of ways of pre-training at equal compute: what is run, measured and shown."""
