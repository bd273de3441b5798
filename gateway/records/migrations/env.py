"""What Alembic runs for each of its commands: everything in the caller's one transaction."""

from __future__ import annotations

from alembic import context

from gateway.records.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes most of a table by making it anew
)
with context.begin_transaction():
    context.run_migrations()
