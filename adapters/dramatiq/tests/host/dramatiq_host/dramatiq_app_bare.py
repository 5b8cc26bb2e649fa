"""A boot file that forgot to import the implementations."""

from sigra_workers_dramatiq import boot

boot("dramatiq_host.jobs:workers")
