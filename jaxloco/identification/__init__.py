"""Identification: a robot's figures from recordings, with intervals; `jaxloco identify`."""

from jaxloco.identification.identify import Estimate, Identification, Options, identify

__all__ = ["Estimate", "Identification", "Options", "identify"]
