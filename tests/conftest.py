"""Settings for all tests: property tests are the same in every run.

To look for new counterexamples instead: HYPOTHESIS_PROFILE=explore pytest …
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
