"""What happened to one job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sigra_workers.conformance.records import Record


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to one job, in order."""

    job: str
    records: Sequence[Record]

    def of(self, *what: str) -> list[Record]:
        """The records of these kinds."""
        return [record for record in self.records if record["what"] in what]

    def all(self, what: str, fact: str) -> list[Any]:
        """One fact of all records of a kind."""
        return [record[fact] for record in self.of(what)]

    @property
    def runs(self) -> list[Record]:
        """Each time that `perform` was called."""
        return self.of("run")

    @property
    def decisions(self) -> list[Any]:
        """How each run ended, as the hook `finished` was told."""
        return self.all("finished", "decision")

    def __str__(self) -> str:
        start = self.records[0]["at"] if self.records else 0.0
        shown = ("attempt", "snoozes", "decision", "error", "reason", "pid")
        lines = [f"job {self.job}:"]
        for record in self.records:
            facts = (f"{name}={record[name]!r}" for name in shown if record.get(name) is not None)
            lines.append(f"  {record['at'] - start:7.3f} s  {record['what']:<9}{' '.join(facts)}")
        return "\n".join(lines if self.records else [*lines, "  nothing happened"])
