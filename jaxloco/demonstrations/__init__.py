"""Demonstrations: recorded or authored motions that a policy learns from."""
