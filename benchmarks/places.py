"""Where the servers are, and what of them is ours; nothing else, as worker processes load this."""

import os
from typing import Final

_PORTS: Final = {
    name: os.environ.get(f"{name}_PORT", port)
    for name, port in (("REDIS", "6379"), ("RABBITMQ", "5672"), ("MARIADB", "3306"), ("POSTGRES", "5432"))
}
REDIS: Final = os.environ.get("SIGRA_BENCH_REDIS_URL", f"redis://127.0.0.1:{_PORTS['REDIS']}/14")
RABBITMQ: Final = f"amqp://guest:guest@127.0.0.1:{_PORTS['RABBITMQ']}"
DATABASES: Final = {
    "PostgreSQL": f"postgresql+psycopg://postgres@127.0.0.1:{_PORTS['POSTGRES']}/test",
    "MariaDB": f"mariadb+pymysql://root@127.0.0.1:{_PORTS['MARIADB']}/test?charset=utf8mb4",
}
OURS: Final = "benchmarks-ours"
BARE: Final = "benchmarks-bare"
QUEUES: Final = (OURS, BARE)


def dramatiq(broker: str) -> dict[str, str]:
    """The settings of Dramatiq's adapter."""
    return {"url": broker, "store": REDIS} if broker == RABBITMQ else {"url": broker}
