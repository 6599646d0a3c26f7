"""What all tests share: property tests that draw the same examples in every run."""

import hypothesis

hypothesis.settings.register_profile("nasbench", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("nasbench")
