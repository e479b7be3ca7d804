"""What frozen features hold."""
