"""LibriSpeech and Libri-Light."""
