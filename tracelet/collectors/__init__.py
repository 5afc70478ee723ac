"""What is known of a run besides what its program says: each file reads one source. No thread begins here."""
