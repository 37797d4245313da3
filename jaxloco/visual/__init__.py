"""Pictures of a training and of what it learned: learning curves and videos."""
