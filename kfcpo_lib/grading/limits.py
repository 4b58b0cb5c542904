"""What one student's notebook may take of the teacher's machine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one notebook may take."""

    notebook_seconds: float = 120.0
    """For starting Python and running the cells that the exercises need."""
    exercise_seconds: float = 30.0
    """For all calls of one exercise."""
    memory_gb: float = 2.0
    """Beyond what Python and the packages take."""
    notebook_mb: float = 20.0
    """Size of the file."""

    def __post_init__(self) -> None:
        """Refuse what is not positive.

        Raises:
            ValueError: if a limit is not a positive number; names it.
        """
        for name, value in vars(self).items():
            if not 0.0 < value < 1e6:
                raise ValueError(f"{name} must be positive and below 1e6, got {value}")
