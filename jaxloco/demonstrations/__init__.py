"""Learning from demonstrations: planners, models that are fitted to trials, demonstrators, and the loop of trials."""
