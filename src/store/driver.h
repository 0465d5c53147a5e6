/* store/driver.h: what a database must offer; for the files of this folder only.
 * A driver's connection is used by one thread at a time. */
#pragma once
#include "store/store.h"
#include <stdarg.h>

struct db; /* a connection */
struct db_stmt; /* a running statement */

struct driver {
	const char *name;
	/* `writer`: the one connection that writes; others only read. */
	int (*open)(const char *data_dir, bool writer, struct db **ret, struct why *why);
	void (*close)(struct db **db);
	/* A whole transaction. */
	int (*begin)(struct db *db, bool write);
	int (*commit)(struct db *db);
	void (*rollback)(struct db *db);
	/* One member of a group inside it: all or nothing for itself. release/undo may find the whole transaction gone
	 * (ERR_IO, ERR_NO_SPACE), then nothing of the group is kept. */
	int (*member_begin)(struct db *db);
	int (*member_release)(struct db *db);
	int (*member_undo)(struct db *db);
	int (*prepare)(struct db *db, const char *sql, struct db_stmt **ret);
	/* borrow: the texts live until finish. */
	int (*bind)(struct db_stmt *s, bool borrow, const char *types, va_list ap);
	int (*step)(struct db_stmt *s); /* OK row, ERR_EMPTY done */
	const char *(*text)(struct db_stmt *s, int column);
	int64_t (*integer)(struct db_stmt *s, int column);
	bool (*is_null)(struct db_stmt *s, int column);
	int64_t (*changed)(struct db *db);
	void (*finish)(struct db_stmt **s);
	/* After a commit: the size of the log, 0 if the driver has none to look after. */
	int64_t (*log_pages)(struct db *db);
	/* Moves the log into the database, on a connection of its own. wait: also lets it start over, which keeps
	 * writers out until the readers of the moment are done, but not for long. */
	int (*checkpoint)(struct db *db, bool wait);
	/* Runs statements separated by ';' (migrations). */
	int (*script)(struct db *db, const char *sql, struct why *why);
};

extern const struct driver driver_sqlite;

/* Brings the schema up to the newest version inside the caller's write transaction (migrate.c). */
int store_migrate(const struct driver *d, struct db *db, struct why *why) MUST_USE;
