"""What a teacher runs: `python -m teaching --help`. Nothing here is needed by a learner."""
