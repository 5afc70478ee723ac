"""Run a run's deliveries in a separate process (`delivery="process"`), with their own interpreter.

The process reads the journal like the delivery threads do. A socket carries only requests (flush, finish) and status
updates. If the program dies, the process takes over the journal and finishes the run.
"""
