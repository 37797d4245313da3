"""Learning: pure functions over pytrees, which never see an environment. See docs/learning.md."""
