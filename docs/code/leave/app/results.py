"""What a worker is given, and what it returns: the one place that knows where they come from."""

from sigra_workers import AuditScope as Scope
from sigra_workers import AuditScopeBuilder, Cancel, Error, Ok, OrganizationArgs, Result, Snooze

scope_of = AuditScopeBuilder().build
__all__ = ["Cancel", "Error", "Ok", "OrganizationArgs", "Result", "Scope", "Snooze", "scope_of"]
