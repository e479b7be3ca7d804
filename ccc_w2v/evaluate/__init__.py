"""From a fine-tuned checkpoint to words, error rates and their intervals."""
