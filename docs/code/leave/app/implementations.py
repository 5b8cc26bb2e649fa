"""What does the jobs: imported by worker processes only."""

from app.accounts import CloseAccount
from app.jobs import close_account

close_account.implement(CloseAccount())
