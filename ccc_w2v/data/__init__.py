"""From a manifest line to a batch of two views."""
