"""The application behind `sigra-workers demo`, written as a host would, and the script that runs it."""
