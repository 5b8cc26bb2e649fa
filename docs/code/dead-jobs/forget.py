"""From cron: forget what died 30 days ago, and nobody sent again."""

from datetime import UTC, datetime, timedelta

from app.jobs import workers

long_ago = datetime.now(UTC) - timedelta(days=30)
ours = [job for job in workers.dead() if job.worker]  # not what can't be read
print(workers.purge([job for job in ours if job.died_at < long_ago]), "forgotten")
