"""What is left in the old queue, on Dramatiq and Redis."""

from typing import Any

from redis import Redis

from app.jobs import REDIS_URL, workers

redis: Any = Redis.from_url(REDIS_URL)
waiting = redis.hlen("dramatiq:lifecycle.msgs") + redis.zcard("sigra-workers:dramatiq:parked:at")
print(waiting, "jobs to come,", len(workers.dead()), "dead")
