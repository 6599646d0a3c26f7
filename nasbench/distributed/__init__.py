"""Distribution: the only door to Ray.

Ray reads its environment when it is imported, so it is prepared here, before any module does.
"""

import os
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if (Path.home() / ".ray" / "auth_token").exists():
    # Clusters ask for this token, which Ray sends to a stated address only if told to.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
