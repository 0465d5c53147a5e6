/* store/postgresql_priv.h: a connection to PostgreSQL as a queue of commands, for the files of this driver only.
 *
 * Commands are sent without waiting for the answers of those before (libpq's pipeline mode); answers come in the same
 * order. So what a transaction only writes costs no way to the server and back, but with the next one that somebody
 * waits for. Once a command failed the server leaves out all up to the next synchronisation, and the first error is
 * what the whole queue gives.
 *
 * Threads: as struct db, one at a time. */
#pragma once
#include "store/driver.h"
#include <libpq-fe.h>

#define PG_CACHE_SLOTS 1024 /* more than there are statements */
#define PG_PARAMS_MAX 32
#define PG_QUEUE_MAX 96

enum pg_answer { PG_DONE, PG_ROWS, PG_XID, PG_PREPARED, PG_SYNC };

struct db {
	PGconn *conn; /* NULL: closed after a failure, the next begin opens it again */
	char *place;
	bool writes;
	bool tolerant; /* a query that the database refuses is a result, not a mistake of ours */
	bool in_transaction;
	int failed; /* the first error since the queue was last in order */
	struct why why; /* of it */
	int64_t refused_at_ms; /* when the last attempt to connect failed, 0: it did not */
	int refused; /* and how */
	char *fence; /* what each write transaction makes sure of, or NULL */
	char xid[24]; /* of the write transaction; "": not known yet */
	int64_t changed;
	struct {
		enum pg_answer answer;
		struct db_stmt *stmt; /* who wants it, or NULL */
		const char *sql;
	} queue[PG_QUEUE_MAX];
	unsigned queued;
	struct db_stmt *cache[PG_CACHE_SLOTS];
	unsigned names; /* of prepared statements that were given out on this connection */
};

struct db_stmt {
	struct db *db;
	const char *sql; /* a literal */
	char name[16]; /* of the prepared statement; "": none on this connection; of one that is not cached always */
	bool cached, busy;
	bool queued; /* its answer was not read yet */
	PGresult *rows;
	int row, n_rows;
};

/* What is wrong with the URL, the server or the database, in words. */
int pg_connect(struct db *db, struct why *why) MUST_USE;
/* A connection for plain use, with the session set up. NULL with `why`. */
PGconn *pg_open_plain(const char *place, struct why *why);
int pg_channel_open(const char *place, store_channel_fn *fn, void *ctx, struct db_channel **ret) MUST_USE;
void pg_channel_send(struct db_channel *c, const char *text);
void pg_channel_close(struct db_channel **c);
/* Closes; all commands that were not answered fail. */
void pg_disconnect(struct db *db, const char *reason);
/* Waits for all answers. Returns db->failed. */
int pg_await(struct db *db);
/* Puts a command without parameters into the queue. */
int pg_queue(struct db *db, enum pg_answer answer, const char *sql);
/* The same for a prepared statement; types and values as in PQsendQueryPrepared. */
int pg_queue_stmt(struct db *db, struct db_stmt *s, int n, const char *const values[]);
int pg_queue_prepare(struct db *db, struct db_stmt *s, int n, const Oid types[]);
/* Sends what is queued and lets the server begin, without waiting. */
int pg_push(struct db *db);
/* What a result's error means for us; notes it in db. */
int pg_note_error(struct db *db, const PGresult *res, const char *sql);
/* "postgresql://user@host:port/name", without secrets. malloc'ed. */
char *pg_describe(const char *place);
