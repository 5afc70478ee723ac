"""Calls, arguments and values of the program, read as records."""
