"""What does the jobs: imported by worker processes only."""

from sqlalchemy import select

from app.database import Note, async_session, session
from app.jobs import aexport_notes, export_notes, workers
from sigra_workers import AuditScope, Ok, OrganizationArgs, Result


# begin worker
@export_notes.implement
def export(scope: AuditScope, args: OrganizationArgs) -> Result[list[str]]:
    """All notes: there is no WHERE, and it is not missed."""
    notes = session.get().scalars(select(Note.body).order_by(Note.id)).all()
    workers.audit.log_safe("notes.exported", scope, metadata={"notes": len(notes)})
    return Ok([*notes])


# end worker
# begin async
@aexport_notes.implement
async def aexport(scope: AuditScope, args: OrganizationArgs) -> Result[list[str]]:
    """The same on an event loop."""
    notes = (await async_session.get().scalars(select(Note.body).order_by(Note.id))).all()
    await workers.audit.alog_safe("notes.exported", scope, metadata={"notes": len(notes)})
    return Ok([*notes])


# end async
