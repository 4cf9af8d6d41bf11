"""Replicas of a run behind Ray Serve."""
