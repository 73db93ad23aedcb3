"""The one error that is a user's to mend."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong setting, file or argument: the message names it, its value and the remedy. Jobs show it without a traceback, status 2."""
