"""`delivery="process"`: the deliveries of a run in a process beside the program, with an interpreter of their own.

It reads the journal as the threads do. Only what the program asks of it (that something be held, or the end) and what
it has to tell (how far each backend is) goes over a socket. When the program dies it takes over the journal, and
finishes the run.
"""
