from __future__ import annotations

import sys
from pathlib import Path

# `concur compare` is tested against the same stand-in server as the replay.
sys.path.insert(0, str(Path(__file__).parents[1] / "replay"))
