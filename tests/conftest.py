"""What all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# A change is not refused for an example that another draw would not have shown: machines run the
# same examples each time, people new ones.
settings.register_profile("machine", derandomize=True, deadline=None)
settings.register_profile("person", deadline=None)
settings.load_profile("machine" if os.environ.get("CI") else "person")

# What a shell runs in the background ignores Ctrl-C, and so does all that it starts. Tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
