"""Find this process's rank, and decide which ranks log, to which run. Imports no other part and no framework."""
