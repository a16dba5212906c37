"""The demo's one error."""


class DemoError(Exception):
    """Something the person who runs the demo can act on; its message is one line."""
