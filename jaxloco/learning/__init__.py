"""Learning: pure functions over pytrees, independent of environments. See docs/learning.md."""
