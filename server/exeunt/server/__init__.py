"""HTTP, admission, settings, metrics and the command line: the only part that knows HTTP."""
