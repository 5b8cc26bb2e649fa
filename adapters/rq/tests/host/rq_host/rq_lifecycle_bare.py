"""A boot file that forgot to import the implementations."""

from sigra_workers_rq import boot

boot("rq_host.jobs:workers")
