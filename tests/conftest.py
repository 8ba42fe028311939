"""Fixtures that every test may ask for; each stands in its own file under tests/support."""

pytest_plugins = ["tests.support.nats", "tests.support.bus", "tests.support.micro", "tests.support.serve"]
