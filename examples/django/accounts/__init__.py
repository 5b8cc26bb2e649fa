"""Accounts of organizations, and the jobs about them."""
