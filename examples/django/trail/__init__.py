"""The audit trail, in a table of the application."""
