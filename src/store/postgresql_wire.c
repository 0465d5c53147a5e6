/* Connections to PostgreSQL: how they are opened, sent on and waited for, and what errors mean. Nothing here waits
 * without an end: the server is told how long it may take, and if it says nothing for longer the connection is given
 * up. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "store/postgresql_priv.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_S "5"
#define CONNECT_AGAIN_MS 300
#define STATEMENT_S "60"
#define SILENCE_MS 75000 /* more than a statement may take */
#define VERSION_MIN 130000 /* pg_current_xact_id */
#define PASSWORD_MAX 1024
#define FENCED_STATE "22012" /* a division by zero, which no statement of ours makes by itself */

/* A node that is frozen in a transaction would keep all others from writing: the server ends its session. Longer than
 * any pause that a healthy node makes inside a transaction, shorter than a lease (node/node.h). */
#define IDLE_IN_TRANSACTION_S "8"

/* What every session is to be like. Each of the three limits ends a fault that would last: a statement that does not
 * come to its end, a wait for the other writers, a transaction whose client is silent. */
static const char session[] =
    "SELECT set_config('client_encoding', 'UTF8', false), set_config('TimeZone', 'UTC', false),"
    " set_config('jit', 'off', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('default_transaction_read_only', 'off', false),"
    " set_config('statement_timeout', '" STATEMENT_S "s', false),"
    " set_config('lock_timeout', '30s', false),"
    " set_config('idle_in_transaction_session_timeout', '" IDLE_IN_TRANSACTION_S "s', false),"
    /* What was answered is on disk, whatever the server does for others. */
    " CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END,"
    " current_setting('server_encoding')";

int pg_note_error(struct db *db, const PGresult *res, const char *sql)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	int rc = ERR_INTERNAL;

	if (state != NULL && strcmp(state, FENCED_STATE) == 0 && db->fence != NULL) {
		log_error("node.fenced", "reason=\"another process has this node's name, or others took over what it "
					 "owned while it did not answer\"");
		_exit(1);
	}
	if (state == NULL || text_has_prefix(state, "08") || text_has_prefix(state, "57P") ||
	    text_has_prefix(state, "53") || text_has_prefix(state, "58") || text_has_prefix(state, "XX"))
		rc = ERR_IO;
	if (state != NULL && strcmp(state, "53100") == 0)
		rc = ERR_NO_SPACE;
	else if (state != NULL && text_has_prefix(state, "23"))
		rc = ERR_CONFLICT;
	else if (state != NULL && (text_has_prefix(state, "40") || strcmp(state, "55P03") == 0))
		rc = ERR_AGAIN;
	else if (state != NULL && (strcmp(state, "57014") == 0 || strcmp(state, "25006") == 0 ||
				      strcmp(state, "42501") == 0 || strcmp(state, "25P03") == 0))
		rc = ERR_IO; /* it took too long, a standby, no right, or we were silent for too long */
	if (db->failed != OK)
		return rc;
	db->failed = rc;
	why_set(&db->why, rc, "%s", text != NULL ? text : "the connection was lost");
	if (rc == ERR_INTERNAL && !db->tolerant)
		log_error("store.refused", "state=%s reason=%s statement=%s", state,
		    log_quote(text != NULL ? text : ""), log_quote(sql));
	else if (rc != ERR_CONFLICT && rc != ERR_AGAIN && !db->tolerant)
		log_warn("store.error", "state=%s reason=%s", state != NULL ? state : "-", log_quote(db->why.text));
	/* Our own text. */
	ENSURE(db->tolerant || state == NULL || !text_has_prefix(state, "42") || rc != ERR_INTERNAL);
	return rc;
}

static void forget_answer(struct db *db, unsigned at)
{
	struct db_stmt *s = TAKE(db->queue[at].stmt);

	if (s != NULL && db->queue[at].answer == PG_ROWS)
		s->queued = false;
}

void pg_disconnect(struct db *db, const char *reason)
{
	if (db->conn == NULL)
		return;
	if (reason != NULL && db->failed == OK)
		db->failed = why_set(&db->why, ERR_IO, "%s", reason);
	PQfinish(TAKE(db->conn));
	for (unsigned i = 0; i < db->queued; i++)
		forget_answer(db, i);
	db->queued = 0;
	db->names = 0;
	for (size_t i = 0; i < PG_CACHE_SLOTS; i++)
		if (db->cache[i] != NULL)
			db->cache[i]->name[0] = '\0';
}

/* The second line of a place, or NULL. */
static const char *password_file(const char *place)
{
	const char *line = strchr(place, '\n');

	return line != NULL && line[1] != '\0' ? line + 1 : NULL;
}

static int open_connection(const char *place, PGconn **ret, struct why *why)
{
	AUTO_STR url = str_ndup(place, strcspn(place, "\n"));
	AUTO_STR password = NULL;
	size_t length = 0;
	/* Those before the URL it may say itself; the password behind it counts more. */
	const char *keys[] = {"fallback_application_name", "connect_timeout", "target_session_attrs", "keepalives_idle",
	    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "dbname", "password", NULL};
	const char *values[] = {"bullpen", CONNECT_S, "read-write", "10", "3", "3", "20000", url, NULL, NULL};
	int rc = OK;

	if (password_file(place) == NULL)
		keys[8] = NULL;
	else if ((rc = text_read_file(password_file(place), PASSWORD_MAX, &password, &length)) != OK)
		return why_set(
		    why, rc, "store.password_file: %s cannot be read: %s", password_file(place), err_text(rc));
	else
		password[strcspn(password, "\r\n")] = '\0';
	values[8] = password;
	*ret = PQconnectdbParams(keys, values, 1);
	if (password != NULL)
		explicit_bzero(password, length);
	return OK;
}

/* libpq gives no code for a connection that was refused. In another language it is an error like others. */
static bool is_full(const char *text)
{
	static const char *const full[] = {"too many clients", "connection slots are reserved", "too many connections"};

	for (size_t i = 0; i < ARRAY_LEN(full); i++)
		if (strstr(text, full[i]) != NULL)
			return true;
	return false;
}

/* One line of what libpq says, which is several, with the last the most telling. */
static int connect_failed(PGconn *conn, struct why *why)
{
	AUTO_STR text = text_trim(PQerrorMessage(conn));

	for (char *c = text; *c != '\0'; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	return why_set(why, is_full(text) ? ERR_FULL : ERR_IO, "PostgreSQL does not answer as it should: %s", text);
}

static int set_up(PGconn *conn, struct why *why)
{
	PGresult *res;
	int rc = OK;

	if (PQserverVersion(conn) < VERSION_MIN)
		return why_set(
		    why, ERR_INVALID, "PostgreSQL %d is too old: 13 or later is needed", PQserverVersion(conn) / 10000);
	res = PQexec(conn, session);
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		rc = connect_failed(conn, why);
	else if (strcmp(PQgetvalue(res, 0, PQnfields(res) - 1), "UTF8") != 0)
		rc = why_set(why, ERR_INVALID,
		    "the database is kept in %s: it must be UTF8 (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE "
		    "template0)",
		    PQgetvalue(res, 0, PQnfields(res) - 1));
	PQclear(res);
	return rc;
}

static void ignore_notice(void *arg, const PGresult *res)
{
}

static int open_session(const char *place, PGconn **ret, struct why *why)
{
	PGconn *conn = NULL;
	int rc = open_connection(place, &conn, why);

	if (rc == OK && PQstatus(conn) != CONNECTION_OK)
		rc = connect_failed(conn, why);
	if (rc == OK) {
		PQsetNoticeReceiver(conn, ignore_notice, NULL);
		rc = set_up(conn, why);
	}
	if (rc != OK)
		PQfinish(conn);
	else
		*ret = conn;
	return rc;
}

PGconn *pg_open_plain(const char *place, struct why *why)
{
	PGconn *conn = NULL;

	return open_session(place, &conn, why) == OK ? conn : NULL;
}

int pg_connect(struct db *db, struct why *why)
{
	PGconn *conn = NULL;
	int rc;

	ENSURE(db->conn == NULL);
	/* Everybody who waits behind this would wait for the same. */
	if (db->refused_at_ms != 0 && clock_mono_ms() - db->refused_at_ms < CONNECT_AGAIN_MS)
		return why_set(why, db->refused, "%s", db->why.text);
	rc = open_session(db->place, &conn, why);
	if (rc == OK && (PQenterPipelineMode(conn) != 1 || PQsetnonblocking(conn, 1) != 0)) {
		rc = connect_failed(conn, why);
		PQfinish(conn);
	}
	if (rc != OK) {
		db->refused_at_ms = clock_mono_ms();
		db->refused = rc;
		if (why != NULL)
			db->why = *why;
		return rc;
	}
	db->refused_at_ms = 0;
	db->failed = OK;
	db->in_transaction = false;
	db->conn = conn;
	return OK;
}

/* Until the socket has something for us, or takes something if `writing`. */
static int wait_socket(struct db *db, bool writing)
{
	struct pollfd p = {.fd = PQsocket(db->conn), .events = (short)(POLLIN | (writing ? POLLOUT : 0))};
	int n;

	do
		n = poll(&p, 1, SILENCE_MS);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		pg_disconnect(db, "the server was silent for too long");
		return ERR_IO;
	}
	if ((p.revents & ~POLLOUT) != 0 && PQconsumeInput(db->conn) != 1) {
		pg_disconnect(db, "the connection was lost");
		return ERR_IO;
	}
	return OK;
}

static int flush(struct db *db)
{
	int left;

	while ((left = PQflush(db->conn)) > 0)
		if (wait_socket(db, true) != OK)
			return ERR_IO;
	if (left < 0) {
		pg_disconnect(db, "the connection was lost");
		return ERR_IO;
	}
	return OK;
}

/* The next result, NULL between those of two commands. */
static int next_result(struct db *db, PGresult **ret)
{
	while (PQisBusy(db->conn))
		if (wait_socket(db, false) != OK)
			return ERR_IO;
	*ret = PQgetResult(db->conn);
	return OK;
}

static void keep_answer(struct db *db, unsigned at, PGresult *res)
{
	struct db_stmt *s = db->queue[at].stmt;
	const char *n = PQcmdTuples(res);

	db->changed = n[0] != '\0' ? strtoll(n, NULL, 10) : 0;
	if (db->queue[at].answer == PG_XID)
		snprintf(db->xid, sizeof db->xid, "%s", PQgetvalue(res, 0, 0));
	if (s == NULL || db->queue[at].answer != PG_ROWS) {
		PQclear(res);
		return;
	}
	s->rows = res;
	s->n_rows = PQntuples(res);
	s->row = -1;
}

static int read_answer(struct db *db, unsigned at)
{
	PGresult *res = NULL, *none = NULL;

	if (next_result(db, &res) != OK)
		return ERR_IO;
	if (db->queue[at].answer == PG_SYNC) {
		PQclear(res);
		return OK;
	}
	switch (PQresultStatus(res)) {
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
		keep_answer(db, at, res);
		break;
	case PGRES_PIPELINE_ABORTED:
		PQclear(res);
		break;
	default:
		pg_note_error(db, res, db->queue[at].sql);
		PQclear(res);
	}
	if (db->failed != OK && db->queue[at].answer == PG_PREPARED && db->queue[at].stmt != NULL)
		db->queue[at].stmt->name[0] = '\0'; /* the server does not know it */
	if (PQstatus(db->conn) != CONNECTION_OK) {
		pg_disconnect(db, "the connection was lost");
		return ERR_IO;
	}
	if (next_result(db, &none) != OK)
		return ERR_IO;
	PQclear(none);
	return OK;
}

static int enqueue(struct db *db, int sent, enum pg_answer answer, struct db_stmt *s, const char *sql)
{
	if (sent != 1) {
		pg_disconnect(db, "the connection was lost");
		return ERR_IO;
	}
	db->queue[db->queued].answer = answer;
	db->queue[db->queued].sql = sql;
	db->queue[db->queued++].stmt = s;
	if (s != NULL && answer == PG_ROWS)
		s->queued = true;
	return OK;
}

/* Room for one command and the synchronisation behind it. */
static int make_room(struct db *db)
{
	if (db->failed != OK)
		return db->failed;
	if (db->conn == NULL)
		return ERR_IO;
	return db->queued + 2 < PG_QUEUE_MAX ? OK : pg_await(db);
}

int pg_await(struct db *db)
{
	if (db->conn == NULL)
		return db->failed != OK ? db->failed : ERR_IO;
	if (db->queued == 0)
		return db->failed;
	if (db->queue[db->queued - 1].answer != PG_SYNC &&
	    enqueue(db, PQpipelineSync(db->conn), PG_SYNC, NULL, "") != OK)
		return db->failed;
	if (flush(db) != OK)
		return db->failed;
	for (unsigned i = 0; i < db->queued; i++) {
		if (read_answer(db, i) != OK)
			return db->failed;
		forget_answer(db, i);
	}
	db->queued = 0;
	return db->failed;
}

int pg_queue(struct db *db, enum pg_answer answer, const char *sql)
{
	int rc = make_room(db);

	return rc != OK
		   ? rc
		   : enqueue(db, PQsendQueryParams(db->conn, sql, 0, NULL, NULL, NULL, NULL, 0), answer, NULL, sql);
}

int pg_queue_stmt(struct db *db, struct db_stmt *s, int n, const char *const values[])
{
	int rc = make_room(db);

	return rc != OK
		   ? rc
		   : enqueue(db, PQsendQueryPrepared(db->conn, s->name, n, values, NULL, NULL, 0), PG_ROWS, s, s->sql);
}

int pg_queue_prepare(struct db *db, struct db_stmt *s, int n, const Oid types[])
{
	int rc = make_room(db);

	if (rc != OK)
		return rc;
	if (s->cached)
		snprintf(s->name, sizeof s->name, "s%u", ++db->names);
	return enqueue(db, PQsendPrepare(db->conn, s->name, s->sql, n, types), PG_PREPARED, s, s->sql);
}

int pg_push(struct db *db)
{
	if (db->conn == NULL)
		return ERR_IO;
	if (enqueue(db, PQpipelineSync(db->conn), PG_SYNC, NULL, "") != OK)
		return ERR_IO;
	return flush(db);
}

char *pg_describe(const char *place)
{
	AUTO_STR url = str_ndup(place, strcspn(place, "\n"));
	PQconninfoOption *options = PQconninfoParse(url, NULL);
	const char *host = "", *port = "", *user = "", *name = "";
	char *text;

	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
		const char **field = strcmp(o->keyword, "host") == 0	 ? &host
				     : strcmp(o->keyword, "port") == 0	 ? &port
				     : strcmp(o->keyword, "user") == 0	 ? &user
				     : strcmp(o->keyword, "dbname") == 0 ? &name
									 : NULL;

		if (field != NULL && o->val != NULL)
			*field = o->val;
	}
	text = str_printf("postgresql://%s%s%s%s%s/%s", user, user[0] != '\0' ? "@" : "", host,
	    port[0] != '\0' ? ":" : "", port, name);
	PQconninfoFree(options);
	return text;
}
