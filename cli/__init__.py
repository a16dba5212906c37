"""The command line. A command is parse → one library call → output."""
