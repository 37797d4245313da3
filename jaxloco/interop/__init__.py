"""Bridges to other packages' environments: Brax, MuJoCo Playground, Gymnasium, Stable-Baselines3."""
