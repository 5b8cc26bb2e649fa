"""What each process begins with that runs jobs, or looks after them."""

import os

import django
from django.db import connections
from django.utils.module_loading import autodiscover_modules

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

# The module `workers` of each installed app that has one.
autodiscover_modules("workers")
# What imports may have opened: RQ forks, and its children must not share it.
connections.close_all()

from config.jobs import workers  # noqa: E402

__all__ = ["workers"]
