"""The sets and readers that the tests of these rooms share."""

from tests.sets import make_set, no_waiting, registry  # noqa: F401
