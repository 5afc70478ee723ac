"""Modules with the API of other trackers, over tracelet's runs."""
