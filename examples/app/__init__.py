"""A host application: written once, run on any queue by a setting and a boot file."""
