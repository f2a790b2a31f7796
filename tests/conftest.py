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

# What a shell runs in the background ignores Ctrl-C, what nohup runs SIGHUP, and so does all that
# these start. Tests send both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
