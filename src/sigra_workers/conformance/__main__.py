"""Lists the rules: python -m sigra_workers.conformance."""

import sys

from sigra_workers.conformance.kit import AdapterConformance

if __name__ == "__main__":
    sys.stdout.writelines(f"{rule}\n" for rule in AdapterConformance.rules())
