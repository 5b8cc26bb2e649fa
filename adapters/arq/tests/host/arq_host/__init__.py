"""The host application of the integration tests."""
