"""``python -m ftt_hub.cli``, which ``accelerate launch -m`` needs."""

from ftt_hub.cli.main import main

main()
