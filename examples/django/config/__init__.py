"""The project: settings, URLs, the registry of jobs, and a boot file for each queue."""
