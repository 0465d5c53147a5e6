/* store/store.h: the durable state. Transactions are straight-line code; what tx_commit returned OK for is on disk.
 *
 * Threads: any. A transaction belongs to the thread that began it, and nothing but SQL may happen inside a write
 * transaction: other writers wait. Concurrent write transactions are made durable by one commit together (group commit,
 * docs/adr/0002); each of them is still all or nothing.
 *
 * The SQL is the part that SQLite and PostgreSQL share: $1 parameters, RETURNING, ON CONFLICT. Values are text and
 * 64-bit integers, either of which may be NULL, and nothing else. Nothing outside the driver's files knows which
 * database runs.
 *
 * Codes: ERR_CONFLICT a constraint; ERR_AGAIN another transaction won, the whole transaction must be tried again
 * (store_write does that); ERR_IO, ERR_NO_SPACE the store cannot work now. */
#pragma once
#include "base/errors.h"

struct store;
struct tx;
struct query;

enum tx_mode { TX_READ, TX_WRITE };

/* Which database belongs to the data folder `dir`, which must be there: that of the URL, postgresql://…, with the
 * password in the file if one is named, or, for NULL, SQLite in the folder. Once it was settled it stays: ERR_CONFLICT
 * if the folder has the other one, ERR_INVALID, ERR_IO, each with `why`. */
int store_settle_place(const char *dir, const char *url, const char *password_file, struct why *why) MUST_USE;
/* Opens (creates) the store and brings its schema up to date. place: the data folder, or a URL as above.
 * What is there already is checked: ERR_* with a sentence in `why` if it is damaged, foreign or newer than this
 * program. */
int store_open(const char *place, struct store **ret, struct why *why) MUST_USE;
/* Whether the folder's database is SQLite and is there. */
bool store_is_sqlite(const char *dir);
/* Copies what is in SQLite in `dir`, which nobody else may use meanwhile, to the PostgreSQL `place` (a URL, and behind
 * a line's end the file of a password, if there is one), whose tables must be empty, in one transaction, and compares
 * each row. Errors with `why`: nothing was changed. */
typedef void store_copy_fn(void *ctx, const char *table, int64_t rows);
int store_copy(const char *dir, const char *place, store_copy_fn *tell, void *ctx, struct why *why) MUST_USE;
/* From now on the folder belongs to that place; the file of before is kept under another name. */
int store_moved(const char *dir, const char *place, struct why *why) MUST_USE;
/* Whether a place is a URL and not a folder. */
bool store_is_url(const char *place);
/* Whether there is a store in the place; store_open would create one. */
bool store_exists(const char *place);
/* Looks whether the files of the store are still what they were when it was opened, and can be written. If not, that is
 * logged once (store.gone), and from then on, whatever happens, every write transaction is ERR_IO: only a restart
 * helps. A few system calls; for one thread that does it every second or so. */
void store_look(struct store *st);
/* True with `why`, a sentence: it was found to be so. Any thread. */
bool store_is_gone(struct store *st, struct why *why);
/* No transaction may be open. NULL is fine. */
void store_close(struct store **st);

/* TX_READ sees one snapshot. TX_WRITE blocks until it is its turn. ERR_IO, ERR_NO_SPACE. */
int tx_begin(struct store *st, enum tx_mode mode, struct tx **ret) MUST_USE;
/* Whether this thread has a write transaction open. It must then neither begin another (it would wait for itself; this
 * is asserted) nor tell anybody what is not committed yet. */
bool tx_write_is_open(void);
/* Makes it durable and frees it, whatever the result; *tx is NULL afterwards. Errors: nothing of it was kept. */
int tx_commit(struct tx **tx) MUST_USE;
/* Rolls back and frees. NULL is fine: AUTO(tx). */
void tx_free(struct tx **tx);

/* Runs fn in a write transaction and commits it. After ERR_AGAIN, of a statement or of the commit, everything is tried
 * again, fn included, after a short pause and a limited number of times: fn must do nothing but SQL, and must set what
 * it returns through arg anew each time. Another code of fn rolls back and is returned. What is told outside comes
 * after store_write returned OK. */
int store_write(struct store *st, int (*fn)(struct tx *tx, void *arg), void *arg) MUST_USE;

/* What the finished statements of this thread have cost the database so far, in steps of its own (rows and index
 * entries looked at, roughly); 0 if it cannot tell. A measure that does not depend on how busy the machine is. */
uint64_t store_work(struct store *st);

/* Gives free space back to the file system: at most max_pages pages of the database in one short write transaction.
 * Returns how many free pages are left (0: done), or a negative code. For a sweep that calls it again and again. */
int64_t store_give_back(struct store *st, int64_t max_pages) MUST_USE;

/* Runs a statement. Its error may come with a later one or with the commit (PostgreSQL is not waited for): where a
 * conflict matters to the caller, tx_change. `types` names the arguments: s text (const char *, NULL is SQL NULL), i
 * int64_t, one per parameter. `sql` must be a string literal (its address is the key of the statement cache). */
int tx_exec(struct tx *tx, const char *sql, const char *types, ...) MUST_USE;
/* The same, for a statement whose number of changed rows matters. */
int tx_change(struct tx *tx, int64_t *ret_changed, const char *sql, const char *types, ...) MUST_USE;
/* Rows: query_next gives OK for a row, ERR_EMPTY at the end, or an error. Use AUTO(query). */
int tx_query(struct tx *tx, struct query **ret, const char *sql, const char *types, ...) MUST_USE;
int query_next(struct query *q) MUST_USE;
void query_free(struct query **q);
/* Columns of the present row, from 0. Text is borrowed until the next query_next; NULL for SQL NULL. */
const char *query_text(struct query *q, int column);
const char *query_str(struct query *q, int column); /* "" instead of NULL */
int64_t query_int(struct query *q, int column); /* 0 for SQL NULL */
bool query_is_null(struct query *q, int column);
/* First column of the first row; ERR_EMPTY if there is no row. */
int tx_query_int(struct tx *tx, int64_t *ret, const char *sql, const char *types, ...) MUST_USE;
/* malloc'ed; NULL for SQL NULL. */
int tx_query_text(struct tx *tx, char **ret, const char *sql, const char *types, ...) MUST_USE;

/* Several servers may work on one store at the same time: it is PostgreSQL. */
bool store_is_shared(struct store *st);
/* The time that all of them go by, Unix milliseconds: the database's, or, where nobody else is, this machine's. */
int tx_now(struct tx *tx, int64_t *ret_ms) MUST_USE;
/* From now on each write transaction of this store first makes sure that the row of `nodes` with this id still has this
 * epoch. If not, the process ends at once (node.fenced): others have taken over what it owned. A shared store only. */
int store_fence(struct store *st, const char *node_id, int64_t epoch) MUST_USE;

/* Words to the other servers on a shared store, and theirs to us. They are hints: one may be lost, and after a gap fn
 * hears NULL, which means that anything may have been missed. fn is called on the channel's thread, with a text that is
 * borrowed. ERR_EMPTY: the store is not shared. */
struct store_channel;
typedef void store_channel_fn(void *ctx, const char *text);
int store_channel_open(struct store *st, store_channel_fn *fn, void *ctx, struct store_channel **ret) MUST_USE;
/* Any thread; never blocks. One line of text. */
void store_channel_send(struct store_channel *c, const char *text);
/* fn is not called any more once it returned. NULL is fine. */
void store_channel_close(struct store_channel **c);

/* Whether this code means "the store cannot work now" (ERR_IO, ERR_NO_SPACE, ERR_AGAIN) and trying later makes sense.
 */
bool store_is_unavailable(int rc);
/* For the edges: logs that the store fails, at most once a minute. */
void store_log_unavailable(struct store *st, int rc);

/* For tests of durability: makes the n-th write commit from now fail with `rc` (n >= 1; 0 switches it off). */
void store_fail_commit(struct store *st, int64_t n, int rc);
