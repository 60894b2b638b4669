"""The history of the record's schema, for Alembic; ships as ``l402.migrations``."""
