"""A wall clock that tests can step, for the services of a plant.

A service started with ``stepping_clock`` in its environment imports the ``sitecustomize`` beside this module, which
adds the number in a file to every reading of the wall clock from Python. The monotonic clock is left alone, as it is by
a real step.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent / "clock_step"


def stepping_clock(clock_file: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment with a clock that follows ``clock_file``."""
    step_clock(clock_file, 0.0)
    path = environment.get("PYTHONPATH", "")
    return environment | {
        "PYTHONPATH": f"{_FOLDER}:{path}" if path else str(_FOLDER),
        "CLOCK_STEP_FILE": str(clock_file),
    }


def step_clock(clock_file: Path, seconds: float) -> None:
    """From now on, the clock is off by so many seconds."""
    replacement = clock_file.with_suffix(".new")
    replacement.write_text(str(seconds))
    replacement.replace(clock_file)
