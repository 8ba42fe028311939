"""What a run is (pure: `flow`, `run`), and the processes that run it on NATS (`bus`, `engine`, `server`)."""

__version__ = "0.1.0"
