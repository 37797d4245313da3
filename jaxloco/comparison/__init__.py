"""Effect or variance: runs of several seeds compared, and sweeps over settings, which are compared at their end."""
