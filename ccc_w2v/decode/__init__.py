"""From a fine-tuned network and audio to words: log-probabilities, searches, windows, transcripts."""
