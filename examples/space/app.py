"""The registry page as a Hugging Face Space: what `ftt-hub browse --web` shows, for everybody."""

from __future__ import annotations

import os

from ftt_hub.web.server import serve

if __name__ == "__main__":
    serve(
        host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        ready=print,
    )
