"""Settings: SQLite, or PostgreSQL where POSTGRES_DB names a database."""

import os
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parents[1]


def database(**limits: str) -> dict[str, Any]:
    """A connection to the one database; `limits` are PostgreSQL's own."""
    name = os.environ.get("POSTGRES_DB")
    if name is None:
        path = os.environ.get("SQLITE_PATH", str(BASE_DIR / "db.sqlite3"))
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            "OPTIONS": {"timeout": 2, "transaction_mode": "IMMEDIATE"},
        }
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": os.environ.get("POSTGRES_HOST", "127.0.0.1"),
        "PORT": os.environ.get("POSTGRES_PORT", "5432"),
        "USER": os.environ.get("POSTGRES_USER", "postgres"),
        "PASSWORD": os.environ.get("POSTGRES_PASSWORD", ""),
        "OPTIONS": limits,
        # docs: connections
        "CONN_MAX_AGE": int(os.environ.get("CONN_MAX_AGE", "0")),
        "CONN_HEALTH_CHECKS": True,
        # docs: end
    }


# docs: audit
DATABASES = {
    "default": database(),
    # The same database once more: what is written here is kept, whatever becomes of the caller's transaction.
    "audit": {
        **database(connect_timeout="2", options="-c statement_timeout=2000"),
        "TEST": {"MIRROR": "default"},
    },
}
# docs: end

# docs: jobs
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_rq",
    "accounts",
    "trail",
]

JOBS_ADAPTER = os.environ.get("JOBS_ADAPTER", "rq")
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
RQ_QUEUES = {"accounts": {"URL": REDIS_URL, "SERIALIZER": "json"}}
# docs: end

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "config.urls"
SECRET_KEY = os.environ.get("SECRET_KEY", "of the example alone")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
