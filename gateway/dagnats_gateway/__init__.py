"""The REST gateway: HTTP → struct → micro request → reply → HTTP. It holds no state and decides nothing."""
