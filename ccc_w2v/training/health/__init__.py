"""Is the pre-training healthy? The history of a run's signals, a verdict on it, and what the run says while it runs."""
