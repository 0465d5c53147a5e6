/* store/driver.h: what a database must offer; for the files of this folder only. A second database is one file that
 * defines a `struct driver`, and the line in store.c that chooses it.
 *
 * Values are text (UTF-8 without NUL) and 64-bit integers, nothing else; each may be NULL. Everything else is written
 * as one of these two: times in milliseconds as integers, truth as 0 and 1, JSON as text.
 *
 * Results: OK; ERR_CONFLICT a constraint of the schema; ERR_AGAIN the transaction lost against another one and must be
 * tried again from its beginning; ERR_IO and ERR_NO_SPACE the database cannot work now; ERR_INTERNAL.
 * Threads: a connection and its statements are used by one thread at a time, not always the same one. */
#pragma once
#include "store/store.h"
#include <stdarg.h>

struct db; /* a connection */
struct db_stmt; /* a running statement */
struct db_channel;
struct db_upkeep; /* what a driver does besides, see there */

/* Which files these are: device and inode; 0: not seen yet. */
struct place_mark {
	struct {
		uint64_t device, inode;
	} folder, database, log;
};

struct driver {
	const char *name;
	/* false: the database has one writer at a time. The store gives its only writing connection to one thread after
	 * the other and makes their transactions durable in groups (one_writer.c). true: each write transaction has a
	 * connection of its own and is committed by itself; the three functions of parts below may be NULL. */
	bool many_writers;
	/* Reading connections, more or less; 0: as many as threads want. */
	unsigned connections_max;
	/* writes: false for a connection that only reads. Everything that can be checked about what is there already
	 * (that it is a database, whole, and of this kind) is checked here. ERR_FULL, also of begin, which may have to
	 * open again: the database takes no more connections. */
	int (*open)(const char *place, bool writes, struct db **ret, struct why *why);
	void (*close)(struct db **db);

	/* A transaction. A reading one sees one snapshot; writing ones are serializable. After an error of commit
	 * nothing of it is kept and no transaction is open. */
	int (*begin)(struct db *db, bool write);
	int (*commit)(struct db *db);
	void (*rollback)(struct db *db);
	/* A part of a transaction that is all or nothing by itself. keep and undo may find the whole transaction gone
	 * (ERR_IO, ERR_NO_SPACE); then nothing of any part is kept. */
	int (*part_begin)(struct db *db);
	int (*part_keep)(struct db *db);
	int (*part_undo)(struct db *db);
	/* Waits for what `later` put off: its first error. Before part_keep, and before nothing else that has an error
	 * of its own. NULL: nothing is put off. */
	int (*settle_part)(struct db *db);

	/* sql: a literal of ours; a mistake in it aborts. */
	int (*prepare)(struct db *db, const char *sql, struct db_stmt **ret);
	/* types, ap: as in tx_exec. borrow: the texts live until finish. */
	int (*bind)(struct db_stmt *s, bool borrow, const char *types, va_list ap);
	int (*step)(struct db_stmt *s); /* OK row, ERR_EMPTY done */
	/* For a statement whose outcome nobody waits for: it may be done with the next one. Its error is that of a
	 * later statement or of settle_part then. NULL: step does it. */
	int (*later)(struct db_stmt *s);
	const char *(*text)(struct db_stmt *s, int column);
	int64_t (*integer)(struct db_stmt *s, int column);
	bool (*is_null)(struct db_stmt *s, int column);
	int64_t (*changed)(struct db *db);
	void (*finish)(struct db_stmt **s);

	/* For store_work. */
	uint64_t (*work)(void);

	/* A database that several processes share; all five are NULL otherwise. now: the statement that gives the time
	 * in milliseconds. fence: of the writing connection, as store_fence. channel: as store_channel_*. */
	const char *now;
	void (*fence)(struct db *db, const char *node_id, int64_t epoch);
	int (*channel_open)(const char *place, store_channel_fn *fn, void *ctx, struct db_channel **ret);
	void (*channel_send)(struct db_channel *c, const char *text);
	void (*channel_close)(struct db_channel **c);

	/* For migrate.c, before it is known what is in the database. */
	/* How many tables of ours have this name; NULL: how many tables there are. */
	int (*count_tables)(struct db *db, const char *name, int64_t *ret, struct why *why);
	/* The integer that a query gives: ERR_EMPTY no row, ERR_INVALID not an integer, or the query cannot be done. */
	int (*ask)(struct db *db, const char *sql, int64_t *ret, struct why *why);
	/* Runs statements separated by ';'. */
	int (*script)(struct db *db, const char *sql, struct why *why);
	/* Once the schema is up to date, outside a transaction and before anybody else works: what the database wants
	 * to have set or converted. A conversion that fails and can be done without is logged and left. May be NULL. */
	int (*settle)(struct db *db, struct why *why);

	/* Upkeep: a driver that has to look after its files starts its own thread here. All three may be NULL.
	 * committed: after each commit, on the committing thread, which still holds db; it may block only if upkeep is
	 * far behind. */
	int (*upkeep_start)(const char *place, struct db_upkeep **ret, struct why *why);
	void (*committed)(struct db_upkeep *u, struct db *db);
	void (*upkeep_stop)(struct db_upkeep **u);
	/* Whether there is a database of this kind in the place. */
	bool (*exists)(const char *place);
	/* The place for people, without secrets; malloc'ed. NULL: as it is. */
	char *(*describe)(const char *place);
	/* Whether what was opened is still there and can be written: the same files as at the first call, which notes
	 * them in an empty mark. ERR_IO with `why`. A few system calls; may be NULL. */
	int (*still_there)(const char *place, struct place_mark *mark, struct why *why);
	/* Inside a write transaction: gives at most max_pages of free space back to the file system; *ret_left are the
	 * free pages that stay. NULL: the database does that by itself. */
	int (*give_back)(struct db *db, int64_t max_pages, int64_t *ret_left);
};

extern const struct driver driver_sqlite, driver_postgresql;

/* Brings the schema up to the newest version, each step in a transaction of its own, and checks what is there
 * (migrate.c). The caller has no transaction open on db. */
int store_migrate(const struct driver *d, struct db *db, struct why *why) MUST_USE;
