"""Settings, from the environment: the queue is chosen here and nowhere else."""

import os

queue = os.environ.get("APP_QUEUE", "memory")  # or "rq", "dramatiq", "arq"
redis_url = os.environ.get("APP_REDIS_URL", "redis://127.0.0.1:6379/0")
