"""Send again what died of an error that was mended."""

from datetime import UTC, datetime, timedelta

from app.jobs import workers

two_days_ago = datetime.now(UTC) - timedelta(days=2)
dead = workers.dead(organization="northwind", worker="invoices.send", since=two_days_ago)
mended = [job for job in dead if job.reason.startswith("ZeroDivisionError")]
for job in mended:
    print(job.id, job.attempts, job.reason)
print(len(workers.resend(mended, by="ops@northwind.example")), "sent again")
