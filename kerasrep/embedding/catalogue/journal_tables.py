"""The tables of a journal: how they are made, recognised and dropped."""

from __future__ import annotations

import sqlite3

SCHEMA = (
    "CREATE TABLE about (settings TEXT NOT NULL)",
    "CREATE TABLE files (id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL, position INTEGER, "
    "size INTEGER NOT NULL, modified INTEGER NOT NULL, state INTEGER NOT NULL, seconds REAL, reason TEXT)",
    "CREATE INDEX by_position ON files (position)",
    "CREATE TABLE vectors (id INTEGER PRIMARY KEY, vectors BLOB NOT NULL)",
)
#: Of position, id, path, size and time of change; whatever a column is declared as, SQLite takes anything.
FILE_TYPES = (int, int, bytes, int, int)


def has_its_tables(connection: sqlite3.Connection) -> bool:
    """Whether the tables are those of a journal, without views and triggers, which run when they are used."""
    found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return sorted(str(sql) for (sql,) in found) == sorted(SCHEMA)


def drop_tables(connection: sqlite3.Connection) -> None:
    """Drop whatever is there; triggers and indices go with their tables."""
    what = "type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
    for kind, name in connection.execute(f"SELECT type, name FROM sqlite_master WHERE {what}").fetchall():
        quoted = name.replace('"', '""')
        connection.execute(f'DROP {kind} "{quoted}"')
    connection.execute("PRAGMA user_version = 0")
