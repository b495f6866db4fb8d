"""Settings of hypothesis for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("project", deadline=None)  # a slow or busy machine is not a failure
settings.load_profile("project")
