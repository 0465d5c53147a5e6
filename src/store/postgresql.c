/* The PostgreSQL driver. One connection of a node writes, as with SQLite (one_writer.c makes groups), and a lock of the
 * database makes the nodes take turns: so a transaction never loses against another one, and every statement of it
 * sees all that was committed before (docs/adr/0042). Reading transactions have a snapshot and a connection each.
 *
 * What only writes is sent and not waited for; each transaction waits at its end at the latest, so that an error is its
 * own. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "store/postgresql_priv.h"
#include <ctype.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#define SCRIPT_MAX (1024 * 1024)
#define BOOL_OID 16
#define BIGINT_OID 20
#define TEXT_OID 25
/* The writers of all nodes take turns behind it. A number that nobody else in the database uses by chance. */
#define TURN "SELECT pg_current_xact_id()::text, pg_advisory_xact_lock(4780210466912101)"
#define UNKNOWN_MS 20000 /* how long the fate of a commit is looked for */

static void pg_close(struct db **dbp)
{
	struct db *db = TAKE(*dbp);

	if (db == NULL)
		return;
	pg_disconnect(db, NULL);
	for (size_t i = 0; i < PG_CACHE_SLOTS; i++)
		free(db->cache[i]);
	free(db->place);
	free(db->fence);
	free(db);
}

static int pg_open(const char *place, bool writes, struct db **ret, struct why *why)
{
	struct db *db = NEW(struct db);
	int rc;

	db->place = str_dup(place);
	db->writes = writes;
	rc = pg_connect(db, why);
	if (rc != OK)
		pg_close(&db);
	else
		*ret = db;
	return rc;
}

/* Where the statement is, or may be put; NULL if the cache is full of others. */
static struct db_stmt **cache_place(struct db *db, const char *sql)
{
	uint64_t h = ((uint64_t)(uintptr_t)sql * 0x9e3779b97f4a7c15u) >> 32;

	for (size_t i = 0; i < PG_CACHE_SLOTS; i++) {
		struct db_stmt **place = &db->cache[(h + i) % PG_CACHE_SLOTS];

		if (*place == NULL || (*place)->sql == sql)
			return place;
	}
	return NULL;
}

static int pg_prepare(struct db *db, const char *sql, struct db_stmt **ret)
{
	struct db_stmt **place = cache_place(db, sql), *s = place != NULL ? *place : NULL;

	if (db->failed != OK)
		return db->failed;
	if (s == NULL || s->busy) {
		s = NEW(struct db_stmt);
		s->db = db;
		s->sql = sql;
		if (place != NULL && *place == NULL) {
			*place = s;
			s->cached = true;
		}
	}
	s->busy = true;
	*ret = s;
	return OK;
}

/* The types are known only here, and the values only until we return: it is sent now. */
static int pg_bind(struct db_stmt *s, bool borrow, const char *types, va_list ap)
{
	const char *values[PG_PARAMS_MAX];
	char numbers[PG_PARAMS_MAX][24];
	Oid oids[PG_PARAMS_MAX];
	int n = 0, rc = OK;

	for (; types[n] != '\0'; n++) {
		ENSURE(n < PG_PARAMS_MAX);
		oids[n] = types[n] == 's' ? TEXT_OID : BIGINT_OID;
		if (types[n] == 's') {
			values[n] = va_arg(ap, const char *);
			continue;
		}
		ENSURE(types[n] == 'i');
		snprintf(numbers[n], sizeof numbers[n], "%lld", (long long)va_arg(ap, int64_t));
		values[n] = numbers[n];
	}
	if (s->name[0] == '\0')
		rc = pg_queue_prepare(s->db, s, n, oids);
	return rc != OK ? rc : pg_queue_stmt(s->db, s, n, values);
}

static int pg_step(struct db_stmt *s)
{
	int rc = s->queued ? pg_await(s->db) : s->db->failed;

	if (s->rows == NULL)
		return rc != OK ? rc : ERR_IO;
	/* Rows that are here are good, whatever became of a later statement. */
	if (s->row + 1 >= s->n_rows)
		return ERR_EMPTY;
	s->row++;
	return OK;
}

/* Its answer comes with that of the next one that is waited for. */
static int pg_later(struct db_stmt *s)
{
	return s->db->failed;
}

static const char *pg_text(struct db_stmt *s, int column)
{
	return PQgetisnull(s->rows, s->row, column) ? NULL : PQgetvalue(s->rows, s->row, column);
}

static int64_t pg_integer(struct db_stmt *s, int column)
{
	const char *text = PQgetvalue(s->rows, s->row, column);

	if (PQftype(s->rows, column) == BOOL_OID)
		return text[0] == 't';
	return strtoll(text, NULL, 10);
}

static bool pg_is_null(struct db_stmt *s, int column)
{
	return PQgetisnull(s->rows, s->row, column);
}

static int64_t pg_changed(struct db *db)
{
	return db->changed;
}

static void pg_finish(struct db_stmt **sp)
{
	struct db_stmt *s = TAKE(*sp);

	if (s == NULL)
		return;
	PQclear(TAKE(s->rows));
	for (unsigned i = 0; i < s->db->queued; i++)
		if (s->db->queue[i].stmt == s && (s->db->queue[i].answer == PG_ROWS || !s->cached))
			s->db->queue[i].stmt = NULL;
	s->queued = false;
	s->busy = false;
	if (!s->cached)
		free(s);
}

static bool was_closed(const struct db *db)
{
	struct pollfd p = {.fd = PQsocket(db->conn), .events = POLLRDHUP};

	return PQstatus(db->conn) != CONNECTION_OK || poll(&p, 1, 0) != 0;
}

static int pg_begin(struct db *db, bool write)
{
	int rc = OK;

	ENSURE(!db->in_transaction);
	if (db->conn != NULL && pg_await(db) != OK)
		pg_disconnect(db, NULL); /* what it was is over; nobody waits for an answer of it */
	/* Whether the server has closed it while nobody used it. */
	if (db->conn != NULL && was_closed(db))
		pg_disconnect(db, NULL);
	db->failed = OK;
	if (db->conn == NULL)
		rc = pg_connect(db, &db->why);
	db->xid[0] = '\0';
	if (rc == OK)
		rc = pg_queue(db, PG_DONE, write ? "BEGIN" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
	if (rc == OK && write)
		rc = pg_queue(db, PG_XID, TURN);
	/* Behind the turn: whoever takes over has its own turn before or after this transaction. */
	if (rc == OK && write && db->fence != NULL)
		rc = pg_queue(db, PG_DONE, db->fence);
	db->in_transaction = rc == OK;
	return rc;
}

static void pg_fence(struct db *db, const char *node_id, int64_t epoch)
{
	free(db->fence);
	db->fence =
	    str_printf("SELECT 1 / COUNT(*) FROM nodes WHERE id = '%s' AND epoch = %lld", node_id, (long long)epoch);
}

static void pg_rollback(struct db *db)
{
	if (!db->in_transaction)
		return;
	db->in_transaction = false;
	IGNORE(pg_await(db));
	db->failed = OK;
	if (db->conn != NULL && pg_queue(db, PG_DONE, "ROLLBACK") == OK && pg_await(db) != OK)
		pg_disconnect(db, NULL);
	db->failed = OK;
}

/* The connection went while it committed. The database knows what became of the transaction, and keeps knowing it when
 * another server has taken over. Nobody was answered yet, so there is time to ask. */
static int fate_of(struct db *db, const char *xid)
{
	int64_t until = clock_mono_ms() + UNKNOWN_MS;
	AUTO_STR ask =
	    str_printf("SELECT CASE pg_xact_status('%s'::xid8) WHEN 'committed' THEN 1 WHEN 'in progress' THEN"
		       " 2 ELSE 0 END",
		xid);
	int64_t fate = 2;

	do {
		const struct timespec pause = {.tv_nsec = 100000000};
		PGresult *res = NULL;

		nanosleep(&pause, NULL); /* interval of polling */
		if (db->conn == NULL && pg_connect(db, NULL) != OK)
			continue;
		if (PQexitPipelineMode(db->conn) == 1)
			res = PQexec(db->conn, ask);
		fate = PQresultStatus(res) == PGRES_TUPLES_OK ? strtoll(PQgetvalue(res, 0, 0), NULL, 10) : 2;
		PQclear(res);
		pg_disconnect(db, NULL);
	} while (fate == 2 && clock_mono_ms() < until);
	db->refused_at_ms = 0;
	log_warn("store.commit_lost", "xid=%s found=%s", xid,
	    fate == 1	? "committed"
	    : fate == 0 ? "aborted"
			: "unknown effect=\"what was asked is answered 503 and may have been done\"");
	return fate == 1 ? OK : ERR_IO;
}

static int pg_commit(struct db *db)
{
	int rc;

	if (!db->writes) {
		/* Nobody needs the answer: the next transaction on this connection reads it. */
		db->in_transaction = false;
		return pg_queue(db, PG_DONE, "COMMIT") == OK ? pg_push(db) : db->failed;
	}
	rc = pg_await(db);
	if (rc != OK) {
		pg_rollback(db);
		return rc;
	}
	db->in_transaction = false;
	rc = pg_queue(db, PG_DONE, "COMMIT");
	if (rc == OK)
		rc = pg_await(db);
	if (rc != OK && db->conn == NULL && db->xid[0] != '\0')
		rc = fate_of(db, db->xid);
	db->failed = OK;
	return rc;
}

static int pg_part_begin(struct db *db)
{
	return pg_queue(db, PG_DONE, "SAVEPOINT part");
}

/* So that an error of what was put off is this part's, and not the next one's. */
static int pg_settle_part(struct db *db)
{
	return pg_await(db);
}

static int pg_part_keep(struct db *db)
{
	return pg_queue(db, PG_DONE, "RELEASE part");
}

static int pg_part_undo(struct db *db)
{
	int rc;

	IGNORE(pg_await(db));
	if (db->conn == NULL)
		return ERR_IO;
	db->failed = OK;
	rc = pg_queue(db, PG_DONE, "ROLLBACK TO part");
	if (rc == OK)
		rc = pg_queue(db, PG_DONE, "RELEASE part");
	return rc != OK ? rc : pg_await(db);
}

/* PostgreSQL cannot tell what a statement cost without being asked to explain it. */
static uint64_t pg_work(void)
{
	return 0;
}

/* Text is compared by its bytes, as everywhere in this program, whatever the database was made for. */
static char *compare_bytes(const char *sql)
{
	AUTO_FINI(strbuf) b = STRBUF(SCRIPT_MAX);

	for (const char *c = sql; *c != '\0'; c++) {
		bool word = strncmp(c, " TEXT", 5) == 0 && !isalnum((unsigned char)c[5]) && c[5] != '_';

		strbuf_addc(&b, *c);
		if (!word)
			continue;
		strbuf_adds(&b, "TEXT COLLATE \"C\"");
		c += 4;
	}
	ENSURE(!b.overflowed);
	return strbuf_take(&b);
}

static int pg_script(struct db *db, const char *shared, struct why *why)
{
	AUTO_STR sql = compare_bytes(shared);
	PGresult *res = NULL;
	int rc = pg_await(db);

	if (rc == OK && (PQexitPipelineMode(db->conn) != 1 || PQsetnonblocking(db->conn, 0) != 0))
		rc = ERR_IO;
	if (rc != OK)
		return why_set(why, rc, "%s", db->why.text);
	/* A large table takes the time that it takes. */
	PQclear(PQexec(db->conn, "SET LOCAL statement_timeout = 0"));
	res = PQexec(db->conn, sql);
	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK) {
		db->tolerant = true;
		rc = pg_note_error(db, res, "a step of the schema");
		db->tolerant = false;
		why_set(why, rc, "%s: %s", db->why.text, PQresultErrorMessage(res));
	}
	PQclear(res);
	if (PQsetnonblocking(db->conn, 1) != 0 || PQenterPipelineMode(db->conn) != 1)
		pg_disconnect(db, "the connection was lost");
	return rc != OK ? rc : db->failed;
}

static int pg_ask(struct db *db, const char *sql, int64_t *ret, struct why *why)
{
	struct db_stmt s = {.db = db, .sql = sql, .busy = true}, *sp = &s;
	int rc;

	db->tolerant = true;
	rc = pg_queue_prepare(db, &s, 0, NULL);
	if (rc == OK)
		rc = pg_queue_stmt(db, &s, 0, NULL);
	if (rc == OK)
		rc = pg_step(&s);
	db->tolerant = false;
	if (rc == ERR_INTERNAL)
		rc = ERR_INVALID;
	if (rc == OK && (pg_is_null(&s, 0) || PQftype(s.rows, 0) == TEXT_OID))
		rc = why_set(why, ERR_INVALID, "not a number where one is expected");
	else if (rc == OK)
		*ret = pg_integer(&s, 0);
	else if (rc != ERR_EMPTY)
		why_set(why, rc, "%s", db->why.text);
	s.cached = true; /* it is not on the heap */
	pg_finish(&sp);
	return rc;
}

static int pg_count_tables(struct db *db, const char *name, int64_t *ret, struct why *why)
{
	static const char all[] = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()";
	char sql[200];

	snprintf(sql, sizeof sql, "%s%s%s%s", all, name != NULL ? " AND tablename = '" : "", name != NULL ? name : "",
	    name != NULL ? "'" : "");
	return pg_ask(db, sql, ret, why);
}

/* One that does not answer is there: opening it says what is wrong. */
static bool pg_exists(const char *place)
{
	struct db *db = NULL;
	int64_t n = 0;
	bool there = true;

	if (pg_open(place, false, &db, NULL) == OK && pg_begin(db, false) == OK &&
	    pg_count_tables(db, "schema_version", &n, NULL) == OK)
		there = n > 0;
	if (db != NULL)
		pg_rollback(db);
	pg_close(&db);
	return there;
}

const struct driver driver_postgresql = {
    .name = "postgresql",
    .connections_max = 20,
    .open = pg_open,
    .close = pg_close,
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .part_begin = pg_part_begin,
    .part_keep = pg_part_keep,
    .part_undo = pg_part_undo,
    .settle_part = pg_settle_part,
    .work = pg_work,
    .prepare = pg_prepare,
    .bind = pg_bind,
    .step = pg_step,
    .later = pg_later,
    .text = pg_text,
    .integer = pg_integer,
    .is_null = pg_is_null,
    .changed = pg_changed,
    .finish = pg_finish,
    .count_tables = pg_count_tables,
    .ask = pg_ask,
    .script = pg_script,
    .exists = pg_exists,
    .now = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    .fence = pg_fence,
    .channel_open = pg_channel_open,
    .channel_send = pg_channel_send,
    .channel_close = pg_channel_close,
    .describe = pg_describe,
};
