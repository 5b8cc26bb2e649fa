"""What is left in the old queue, on arq."""

from redis import Redis

from app.jobs import REDIS_URL, workers

print(Redis.from_url(REDIS_URL).zcard("lifecycle"), "jobs to come,", len(workers.dead()), "dead")
