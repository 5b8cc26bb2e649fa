"""An organization leaves: python leave.py acme."""

import sys

from app.database import leave
from app.jobs import audit

organization_id = sys.argv[1]
leave(organization_id)
# Of no organization, so that it stays when the events of this one are deleted.
audit.log("organization.left", None, target_type="organization", target_id=organization_id)
