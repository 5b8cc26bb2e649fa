"""An app of the tests, in the Django project of examples/django: jobs that tell what they find."""
