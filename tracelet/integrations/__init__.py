"""Loggers and callbacks for frameworks. Each framework has its own module, which imports no other framework."""
