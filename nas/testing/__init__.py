"""Conformance suites: what every part of the engine must do, also one that a user writes."""
