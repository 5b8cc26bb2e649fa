"""What cron calls: python -m app.tick 2026-11"""

import sys

from app.jobs import BillAllArgs, bill_all, workers

month = sys.argv[1]
args = BillAllArgs(organization_id=None, actor_id=None, month=month)
workers.enqueue_many([bill_all.new(args, job_id=f"bill-all-{month}")], on_duplicate="skip")
