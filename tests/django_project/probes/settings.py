"""The project's settings, with this app; some are what a test says."""

import os

from config.settings import *  # noqa: F403
from config.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS.append("probes")
for _database in DATABASES.values():
    _database["CONN_HEALTH_CHECKS"] = "NO_HEALTH_CHECKS" not in os.environ
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
