"""A viewer in the browser: `jaxloco view` and `jaxloco demo`."""
