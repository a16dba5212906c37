"""The registry as a page in a browser: `ftt-hub browse --web`, and a Space (extra `web`)."""
