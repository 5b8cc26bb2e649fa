"""An ambient tenant: one thread runs one message for nobody, and then for somebody else."""

# begin
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

tenant: ContextVar[str] = ContextVar("tenant", default="public")


def run(message: dict[str, str]) -> str:
    if "tenant" in message:  # a header, put there by the sender's middleware
        tenant.set(message["tenant"])
    return f"{message['account']} of {tenant.get()}"


lost = {"account": "acc_7"}  # a retry that came without its headers
other = {"account": "acc_1", "tenant": "acme"}
with ThreadPoolExecutor(max_workers=1) as worker:
    assert worker.submit(run, lost).result() == "acc_7 of public"
    assert worker.submit(run, other).result() == "acc_1 of acme"
    assert worker.submit(run, lost).result() == "acc_7 of acme"
# end
