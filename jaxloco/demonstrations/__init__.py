"""Learning from demonstrations: motions, planners, models that are fitted to trials, and the loop of trials."""
