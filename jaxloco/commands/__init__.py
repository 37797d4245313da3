"""The subcommands of `jaxloco`, a function each, which takes its words and returns the exit status."""
