"""The parts of the demo driver."""
