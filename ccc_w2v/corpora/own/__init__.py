"""A user's own folder of audio: transcripts, splits by speaker, one format, labels and dictionary."""
