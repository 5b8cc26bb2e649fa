"""Settings, from the environment. The queue and the database are chosen here and nowhere else."""

import os
import secrets
from typing import Any, Final

ADAPTER: Final = os.environ.get("SAAS_ADAPTER", "memory")  # or "rq", "dramatiq", "arq"
QUEUE: Final = os.environ.get("SAAS_QUEUE", "saas")
REDIS_URL: Final = os.environ.get("SAAS_REDIS_URL", "redis://127.0.0.1:6379/0")
RABBITMQ_URL: Final = os.environ.get(
    "SAAS_RABBITMQ_URL"
)  # for Dramatiq: its jobs are there, and not in Redis
DATABASE_URL: Final = os.environ.get("SAAS_DATABASE_URL", "sqlite:///saas.db")
SECRET: Final = os.environ.get("SAAS_SECRET") or secrets.token_hex()  # without one, a restart signs all out
PACE: Final = float(os.environ.get("SAAS_PACE", "3"))  # seconds that work takes, and that jobs wait


def queue_settings() -> dict[str, Any]:
    """How the adapter gets to its servers; the embedded one has none, and leaves the URL alone."""
    if RABBITMQ_URL is not None:
        return {"url": RABBITMQ_URL, "store": REDIS_URL}
    return {"url": REDIS_URL}
