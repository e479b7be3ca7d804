"""The same checkpoints and recordings as for the exports."""

from tests.export.conftest import recordings, save  # noqa: F401
