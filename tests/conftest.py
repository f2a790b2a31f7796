"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# A change is not refused for an example that another draw would not have shown: machines run the
# same examples each time, people new ones.
settings.register_profile("machine", derandomize=True, deadline=None)
settings.register_profile("person", deadline=None)
settings.load_profile("machine" if os.environ.get("CI") else "person")
