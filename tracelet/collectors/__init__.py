"""Collect facts about a run and its machine. Each module reads one source; none starts a thread."""
