"""From a URDF or MJCF of any project to a robot folder."""
