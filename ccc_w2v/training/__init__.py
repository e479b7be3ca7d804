"""What happens while a run runs: resuming, checkpoint files, stopping, log, waiting for data."""
