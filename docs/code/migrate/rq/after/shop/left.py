"""How many of the old jobs there still are, by where they wait: python -m shop.left"""

from collections import Counter

from rq.job import Job

from shop.queues import connection, mail


def left(function: str = "shop.tasks.remind") -> Counter[str]:
    """Those of a function."""
    registries = {
        "started": mail.started_job_registry,
        "scheduled": mail.scheduled_job_registry,
        "deferred": mail.deferred_job_registry,
        "failed": mail.failed_job_registry,
    }
    found: Counter[str] = Counter()
    waiting = {
        "queued": mail.get_job_ids(),
        **{name: each.get_job_ids() for name, each in registries.items()},
    }
    for place, ids in waiting.items():
        for job in Job.fetch_many(ids, connection=connection):
            found[place] += job is not None and job.func_name == function
    return +found


if __name__ == "__main__":
    print(dict(left()))
