/* The SQLite driver: WAL, synchronous=FULL. With sqlite_checkpoint.c, which
 * keeps the log short on a thread of its own, the only file that knows SQLite. Statements are cached by the address of
 * their text, which is a literal. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/driver.h"
#include "store/sqlite_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_SLOTS 512 /* more than there are statements */
#define PARAMS_MAX 32

struct db {
	sqlite3 *conn;
	int log_pages;
	struct db_stmt *cache[CACHE_SLOTS];
};

struct db_stmt {
	struct db *db;
	const char *sql;
	sqlite3_stmt *stmt;
	bool cached, busy;
	unsigned char index[PARAMS_MAX]; /* SQLite's number of $1, $2, … : it counts by first appearance */
};

static int translate(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return OK;
	case SQLITE_FULL:
		return ERR_NO_SPACE;
	case SQLITE_CONSTRAINT:
		return ERR_CONFLICT;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL: /* the lock of the log was not got, after many tries */
	case SQLITE_NOMEM:
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return ERR_IO;
	default:
		return ERR_INTERNAL;
	}
}

/* The files were found to be others than those that are open: what stands under their names belongs to somebody else.
 */
static atomic_bool not_ours;

static void sqlite_close(struct db **dbp)
{
	struct db *db = TAKE(*dbp);
	int keep = 1;

	if (db == NULL)
		return;
	/* The last connection to close deletes the log by its name. */
	if (atomic_load(&not_ours))
		sqlite3_file_control(db->conn, NULL, SQLITE_FCNTL_PERSIST_WAL, &keep);
	for (size_t i = 0; i < CACHE_SLOTS; i++) {
		if (db->cache[i] == NULL)
			continue;
		sqlite3_finalize(db->cache[i]->stmt);
		free(db->cache[i]);
	}
	sqlite3_close(db->conn);
	free(db);
}

/* SQLite's own count of its memory is one lock around every allocation of all connections; nobody reads it. */
static void configure(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static int on_commit(void *ctx, sqlite3 *conn, const char *name, int pages)
{
	((struct db *)ctx)->log_pages = pages;
	return SQLITE_OK;
}

static int sqlite_open(const char *place, bool writes, struct db **ret, struct why *why)
{
	AUTO_STR path = str_printf("%s/bullpen.db", place);
	static pthread_once_t configured = PTHREAD_ONCE_INIT;
	struct db *db = NEW(struct db);
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READWRITE | (writes ? SQLITE_OPEN_CREATE : 0);
	int rc;

	pthread_once(&configured, configure);
	rc = sqlite3_open_v2(path, &db->conn, flags, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(db->conn, 10000);
		sqlite3_extended_result_codes(db->conn, 1);
		rc = sqlite3_exec(db->conn,
		    /* auto_vacuum comes first: it can be set only while the file is empty. */
		    writes ? "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA "
			     "foreign_keys=ON;"
			     "PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;"
			   : "PRAGMA query_only=ON; PRAGMA temp_store=MEMORY;",
		    NULL, NULL, NULL);
	}
	if (rc != SQLITE_OK) {
		rc = why_set(why, translate(rc), "cannot open %s: %s", path, sqlite3_errmsg(db->conn));
		sqlite_close(&db);
		return rc;
	}
	if (writes) {
		sqlite3_wal_hook(db->conn, on_commit, db);
		chmod(path, 0600);
	}
	*ret = db;
	return OK;
}

/* Where the statement is, or may be put; NULL if the cache is full of others. */
static struct db_stmt **cache_place(struct db *db, const char *sql)
{
	uint64_t h = ((uint64_t)(uintptr_t)sql * 0x9e3779b97f4a7c15u) >> 32;

	for (size_t i = 0; i < CACHE_SLOTS; i++) {
		struct db_stmt **place = &db->cache[(h + i) % CACHE_SLOTS];

		if (*place == NULL || (*place)->sql == sql)
			return place;
	}
	return NULL;
}

static void number_parameters(struct db_stmt *s)
{
	for (int n = 1; n <= PARAMS_MAX; n++) {
		char name[16];

		snprintf(name, sizeof name, "$%d", n);
		s->index[n - 1] = (unsigned char)sqlite3_bind_parameter_index(s->stmt, name);
	}
}

static int sqlite_prepare(struct db *db, const char *sql, struct db_stmt **ret)
{
	struct db_stmt **place = cache_place(db, sql), *s = place != NULL ? *place : NULL;
	int rc;

	if (s != NULL && !s->busy) {
		s->busy = true;
		*ret = s;
		return OK;
	}
	s = NEW(struct db_stmt);
	s->db = db;
	s->sql = sql;
	rc = sqlite3_prepare_v3(db->conn, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->stmt, NULL);
	if (rc != SQLITE_OK || s->stmt == NULL) {
		fprintf(stderr, "statement refused: %s: %s\n", sqlite3_errmsg(db->conn), sql);
		free(s);
		ENSURE(rc != SQLITE_ERROR); /* our own text */
		return translate(rc) != OK ? translate(rc) : ERR_IO;
	}
	s->busy = true;
	number_parameters(s);
	if (place != NULL && *place == NULL) {
		*place = s;
		s->cached = true;
	}
	*ret = s;
	return OK;
}

static int sqlite_bind(struct db_stmt *s, bool borrow, const char *types, va_list ap)
{
	for (int n = 0; types[n] != '\0'; n++) {
		int at, rc;

		/* A type letter without its parameter in the SQL is our mistake. */
		ENSURE(n < PARAMS_MAX && s->index[n] > 0);
		at = s->index[n];
		if (types[n] == 's') {
			const char *v = va_arg(ap, const char *);

			rc = v == NULL
				 ? sqlite3_bind_null(s->stmt, at)
				 : sqlite3_bind_text(s->stmt, at, v, -1, borrow ? SQLITE_STATIC : SQLITE_TRANSIENT);
		} else {
			ENSURE(types[n] == 'i');
			rc = sqlite3_bind_int64(s->stmt, at, va_arg(ap, int64_t));
		}
		if (rc != SQLITE_OK)
			return translate(rc);
	}
	return OK;
}

static int sqlite_step(struct db_stmt *s)
{
	int rc = sqlite3_step(s->stmt);

	if (rc == SQLITE_DONE)
		return ERR_EMPTY;
	return translate(rc);
}

static const char *sqlite_text(struct db_stmt *s, int column)
{
	return (const char *)sqlite3_column_text(s->stmt, column);
}

static int64_t sqlite_integer(struct db_stmt *s, int column)
{
	return sqlite3_column_int64(s->stmt, column);
}

static bool sqlite_is_null(struct db_stmt *s, int column)
{
	return sqlite3_column_type(s->stmt, column) == SQLITE_NULL;
}

static int64_t sqlite_changed(struct db *db)
{
	return sqlite3_changes64(db->conn);
}

static _Thread_local uint64_t work;

static uint64_t sqlite_work(void)
{
	return work;
}

static void sqlite_finish(struct db_stmt **sp)
{
	struct db_stmt *s = TAKE(*sp);

	if (s == NULL)
		return;
	work += (uint64_t)sqlite3_stmt_status(s->stmt, SQLITE_STMTSTATUS_VM_STEP, 1);
	if (!s->cached) {
		sqlite3_finalize(s->stmt);
		free(s);
		return;
	}
	sqlite3_reset(s->stmt);
	sqlite3_clear_bindings(s->stmt);
	s->busy = false;
}

/* Every transaction begins and ends with these, so they are prepared once like any other. */
static int run_once(struct db *db, const char *sql)
{
	struct db_stmt *s = NULL;
	int rc = sqlite_prepare(db, sql, &s);

	if (rc != OK)
		return rc;
	ENSURE(s != NULL);
	rc = sqlite_step(s);
	sqlite_finish(&s);
	return rc == ERR_EMPTY ? OK : rc;
}

static int sqlite_begin(struct db *db, bool write)
{
	return run_once(db, write ? "BEGIN IMMEDIATE" : "BEGIN");
}

static void sqlite_rollback(struct db *db)
{
	/* After a full disk or an I/O error SQLite may have rolled back by itself. */
	if (!sqlite3_get_autocommit(db->conn))
		IGNORE(run_once(db, "ROLLBACK"));
}

static int sqlite_commit(struct db *db)
{
	int rc = run_once(db, "COMMIT");

	if (rc != OK)
		sqlite_rollback(db);
	return rc;
}

static int sqlite_part_begin(struct db *db)
{
	return run_once(db, "SAVEPOINT part");
}

static int sqlite_part_keep(struct db *db)
{
	return run_once(db, "RELEASE part");
}

static int sqlite_part_undo(struct db *db)
{
	int rc;

	if (sqlite3_get_autocommit(db->conn))
		return ERR_IO;
	rc = run_once(db, "ROLLBACK TO part");
	return rc != OK ? rc : run_once(db, "RELEASE part");
}

/* A table that the schema calls clustered is kept in the order of its key: a new row is written into one tree instead
 * of the table and the index of the key. Other databases read a comment. */
static char *cluster_tables(const char *sql)
{
	static const char shared[] = "/* clustered */", ours[] = "WITHOUT ROWID  ";
	char *out = str_dup(sql);

	_Static_assert(sizeof shared == sizeof ours, "the text keeps its length");
	for (char *at = out; (at = strstr(at, shared)) != NULL;)
		memcpy(at, ours, sizeof ours - 1);
	return out;
}

static int sqlite_script(struct db *db, const char *shared, struct why *why)
{
	AUTO_STR sql = cluster_tables(shared);
	char *text = NULL;
	int rc = translate(sqlite3_exec(db->conn, sql, NULL, NULL, &text));

	if (rc != OK)
		why_set(why, rc, "%s", text != NULL ? text : err_text(rc));
	sqlite3_free(text);
	return rc;
}

/* A query whose tables may be missing or different: a refusal is a result, not a mistake of ours. */
static int sqlite_ask(struct db *db, const char *sql, int64_t *ret, struct why *why)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db->conn, sql, -1, &s, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	if (rc == SQLITE_DONE)
		rc = ERR_EMPTY;
	else if (rc == SQLITE_ERROR)
		rc = why_set(why, ERR_INVALID, "%s", sqlite3_errmsg(db->conn));
	else if (rc != SQLITE_ROW)
		rc = why_set(why, translate(rc), "%s", sqlite3_errmsg(db->conn));
	else if (sqlite3_column_type(s, 0) != SQLITE_INTEGER)
		rc = why_set(why, ERR_INVALID, "not a number where one is expected");
	else
		rc = OK;
	if (rc == OK)
		*ret = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return rc;
}

static int sqlite_count_tables(struct db *db, const char *name, int64_t *ret, struct why *why)
{
	char sql[160];

	if (name == NULL)
		return sqlite_ask(db, "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'", ret, why);
	snprintf(sql, sizeof sql, "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '%s'", name);
	return sqlite_ask(db, sql, ret, why);
}

/* A file from before free pages could be given back has to be written anew, once. The copy goes to a file: temp_store
 * is memory otherwise, and the database may be larger than that. */
static int sqlite_settle(struct db *db, struct why *why)
{
	int64_t mode = 0, pages = 0, began = clock_mono_ms();
	int rc = sqlite_ask(db, "PRAGMA auto_vacuum", &mode, why);
	char *text = NULL;

	if (rc == OK && mode != 2)
		rc = sqlite_ask(db, "PRAGMA page_count", &pages, why);
	if (rc != OK || mode == 2)
		return rc;
	log_info("store.compact.begin", "pages=%lld reason=\"written by an older bullpen, once\"", (long long)pages);
	rc = sqlite3_exec(db->conn,
	    "PRAGMA temp_store=FILE; PRAGMA auto_vacuum=INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);", NULL,
	    NULL, &text);
	if (rc == SQLITE_OK)
		log_info("store.compact.done", "ms=%lld", (long long)(clock_mono_ms() - began));
	else
		log_warn("store.compact.failed",
		    "reason=%s effect=\"the file does not become smaller; the next start tries again\"",
		    log_quote(text));
	sqlite3_free(text);
	return translate(sqlite3_exec(db->conn, "PRAGMA temp_store=MEMORY", NULL, NULL, NULL));
}

static int sqlite_give_back(struct db *db, int64_t max_pages, int64_t *ret_left)
{
	char sql[64];
	int64_t mode = 0;
	int rc = sqlite_ask(db, "PRAGMA auto_vacuum", &mode, NULL);

	/* A file that could not be converted keeps its free pages, however often it is asked. */
	*ret_left = 0;
	if (rc != OK || mode != 2)
		return rc;
	snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%lld)", (long long)max_pages);
	rc = translate(sqlite3_exec(db->conn, sql, NULL, NULL, NULL));
	return rc != OK ? rc : sqlite_ask(db, "PRAGMA freelist_count", ret_left, NULL);
}

static bool sqlite_exists(const char *place)
{
	AUTO_STR path = str_printf("%s/bullpen.db", place);
	struct stat s;

	return stat(path, &s) == 0;
}

/* `seen` empty: this is the file. *why says what is wrong. */
static int same_file(const char *path, uint64_t *device, uint64_t *inode, struct why *why)
{
	struct stat s;

	if (stat(path, &s) != 0)
		return why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
	if (*inode == 0) {
		*device = (uint64_t)s.st_dev;
		*inode = (uint64_t)s.st_ino;
	}
	if (*device != (uint64_t)s.st_dev || *inode != (uint64_t)s.st_ino)
		return why_set(why, ERR_IO, "%s is another one than at the start", path);
	return OK;
}

static int can_write(const char *path, struct why *why)
{
	if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
		return OK;
	return why_set(why, ERR_IO, "%s cannot be written: %s", path, strerror(errno));
}

/* What is committed last stands in the log only, which is as good as lost when it has no name. It comes into being with
 * the first connection and goes with the last. */
static int look_at_files(const char *place, struct place_mark *m, struct why *why)
{
	AUTO_STR database = str_printf("%s/bullpen.db", place);
	AUTO_STR log = str_printf("%s-wal", database);
	struct stat s;
	int rc = same_file(place, &m->folder.device, &m->folder.inode, why);

	if (rc == OK)
		rc = same_file(database, &m->database.device, &m->database.inode, why);
	if (rc == OK && (m->log.inode != 0 || stat(log, &s) == 0))
		rc = same_file(log, &m->log.device, &m->log.inode, why);
	if (rc == OK)
		rc = can_write(place, why);
	return rc != OK ? rc : can_write(database, why);
}

static int sqlite_still_there(const char *place, struct place_mark *m, struct why *why)
{
	int rc = look_at_files(place, m, why);

	if (rc != OK)
		atomic_store(&not_ours, true);
	return rc;
}

struct db_upkeep {
	struct checkpointer *checkpointer;
};

static int sqlite_upkeep_start(const char *place, struct db_upkeep **ret, struct why *why)
{
	struct db_upkeep *u = NEW(struct db_upkeep);
	struct db *db = NULL;
	int rc = sqlite_open(place, true, &db, why);

	if (rc == OK) {
		ENSURE(db != NULL);
		sqlite3_wal_hook(db->conn, NULL, NULL); /* it would point to what is freed below */
		rc = checkpointer_start(TAKE(db->conn), &u->checkpointer, why);
		sqlite_close(&db);
	}
	if (rc != OK)
		free(u);
	else
		*ret = u;
	return rc;
}

static void sqlite_committed(struct db_upkeep *u, struct db *db)
{
	checkpointer_tell(u->checkpointer, db->log_pages);
}

static void sqlite_upkeep_stop(struct db_upkeep **up)
{
	struct db_upkeep *u = TAKE(*up);

	checkpointer_free(&u->checkpointer);
	free(u);
}

const struct driver driver_sqlite = {
    .name = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .part_begin = sqlite_part_begin,
    .part_keep = sqlite_part_keep,
    .part_undo = sqlite_part_undo,
    .work = sqlite_work,
    .prepare = sqlite_prepare,
    .bind = sqlite_bind,
    .step = sqlite_step,
    .text = sqlite_text,
    .integer = sqlite_integer,
    .is_null = sqlite_is_null,
    .changed = sqlite_changed,
    .finish = sqlite_finish,
    .count_tables = sqlite_count_tables,
    .ask = sqlite_ask,
    .script = sqlite_script,
    .settle = sqlite_settle,
    .upkeep_start = sqlite_upkeep_start,
    .committed = sqlite_committed,
    .upkeep_stop = sqlite_upkeep_stop,
    .exists = sqlite_exists,
    .still_there = sqlite_still_there,
    .give_back = sqlite_give_back,
};
