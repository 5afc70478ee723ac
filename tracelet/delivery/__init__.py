"""Deliveries: each reads the journal after its cursor and writes to one backend."""
