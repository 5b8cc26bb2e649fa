"""import-linter contract for adapters: the public core, their own queue library, the standard library.

The parts of the core that import pytest are for tests, an adapter's too, and not for the adapter.
"""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

CORE = "sigra_workers"
FOR_TESTS = {"conformance", "testing"}


class AdapterContract(Contract):
    package = fields.StringField()
    allowed = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        package = str(self.package)
        importers = {package, *graph.find_descendants(package)}
        broken = sorted(
            (importer, imported)
            for importer in importers
            for imported in graph.find_modules_directly_imported_by(importer)
            if not self._allows(imported)
        )
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["broken"]:
            output.print_error(f"{importer} must not import {imported}")

    def _allows(self, module: str) -> bool:
        top, *rest = module.split(".")
        if top == CORE:
            return not any(part.startswith("_") or part in FOR_TESTS for part in rest)
        return top == self.package or top in self.allowed or top in sys.stdlib_module_names
