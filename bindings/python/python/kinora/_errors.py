"""The exceptions of the package."""

from __future__ import annotations


class KinoraError(Exception):
    """Something that Kinora could not do: a bad request, model or file, a full disk.

    ``hint`` says what to do, where there is something; it is also the second line of the text.
    """

    hint: str | None

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class Stopped(KinoraError):
    """``progress`` returned False. ``hint`` says what is kept."""
