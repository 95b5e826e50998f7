"""One file a command: read the config, call what does the work, print."""
