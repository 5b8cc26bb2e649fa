"""A small multi-tenant web application, its background jobs and their audit trail."""
