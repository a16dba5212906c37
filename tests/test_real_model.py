"""The real thing: SmolLM2-135M, a real Turkish fine-tune of it, a real continued version.

The models are those of `make demo`, made once in the user's cache (see examples/demo).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from models import same_bits
from safetensors import safe_open

import ftt_hub
from ftt_hub.errors import ExtractionError

pytestmark = pytest.mark.slow
