"""The rules by topic; `AdapterConformance` is all of them."""
