"""Recordings of robots: one table of what was commanded and what was measured, read from files of several formats."""
