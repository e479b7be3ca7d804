"""Crops and their second views for the task: data and augment meet here and nowhere else."""
