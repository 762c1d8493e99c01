"""Replication: bring one repository to what the group wants, and lose no commit on the way."""
