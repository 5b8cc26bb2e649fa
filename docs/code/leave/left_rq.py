"""What is left in the old queue, on RQ."""

from redis import Redis
from rq import Queue

from app.jobs import REDIS_URL, workers

queue = Queue("lifecycle", connection=Redis.from_url(REDIS_URL), serializer="json")
registries = (queue.started_job_registry, queue.scheduled_job_registry)
waiting = queue.count + sum(len(registry.get_job_ids(cleanup=False)) for registry in registries)
print(waiting, "jobs to come,", len(workers.dead()), "dead")
