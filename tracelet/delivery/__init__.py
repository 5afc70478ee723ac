"""Deliver a journal: each delivery reads it after its cursor and writes to one backend."""
