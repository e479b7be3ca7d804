"""Asterisk's voice prompts: the demo's corpus."""
