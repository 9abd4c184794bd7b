"""The store: what must be remembered across processes and machines, in SQL. ``docs/outbox.md`` says what it promises."""
