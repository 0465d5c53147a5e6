#include "agent/mcp/process.h"
#include "agent/box/box.h"
#include "agent/session/exec.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/redact.h"
#include "base/sanitized.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK ((size_t)(SANITIZED ? 2048 : 256) * 1024)
#define BAD_LINES_MAX 100
#define UNSENT_MAX ((size_t)1024 * 1024)
#define NOT_READING_MS 10000
#define POLITE_MS 3000
#define SAID_MAX ((size_t)8 * 1024) /* of stderr, its end */
#define SAID_TOLD ((size_t)600)

struct mcp_process {
	struct mcp_process_config cfg;
	struct mcp_session *session;
	int in; /* its stdin; -1 once closed */
	int child_in; /* its end, until it has said something: while we hold it, its closing is not seen */
	int cancel_fd;

	/* Of the thread that waits for it. */
	struct strbuf line;
	unsigned bad_lines;
	bool stop; /* it is to be killed */

	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t cond;
	bool gone; /* the program */
	bool ended; /* the thread, too: nothing of it is used any more */
	char fault[256];
	struct strbuf said;
	int64_t heard_ms;
	/* What was given to be sent. Only one at a time writes, and none waits while it has the lock. */
	struct strbuf out;
	uint64_t queued, written; /* bytes since the beginning */
};

static void set_fault(struct mcp_process *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void set_fault(struct mcp_process *p, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&p->lock);
	if (p->fault[0] == '\0') {
		va_start(ap, fmt);
		vsnprintf(p->fault, sizeof p->fault, fmt, ap);
		va_end(ap);
		text_utf8_mend(p->fault);
	}
	pthread_mutex_unlock(&p->lock);
}

/* Writes as much as it takes. With the lock held. */
static void write_some(struct mcp_process *p)
{
	while (p->in >= 0 && p->out.len > 0) {
		ssize_t n = write(p->in, p->out.data, p->out.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			close(p->in);
			p->in = -1;
		}
		if (n <= 0)
			return;
		strbuf_consume(&p->out, (size_t)n);
		p->written += (uint64_t)n;
	}
}

void mcp_process_flush(struct mcp_process *p)
{
	pthread_mutex_lock(&p->lock);
	write_some(p);
	pthread_mutex_unlock(&p->lock);
}

bool mcp_process_has_unsent(struct mcp_process *p)
{
	bool yes;

	pthread_mutex_lock(&p->lock);
	yes = p->out.len > 0 && p->in >= 0;
	pthread_mutex_unlock(&p->lock);
	return yes;
}

/* Puts it behind what waits. *ret_end: how far must be written for it to be gone. */
static int queue_message(struct mcp_process *p, const struct mcp_out *m, uint64_t *ret_end, struct why *why)
{
	int rc = OK;

	pthread_mutex_lock(&p->lock);
	if (p->in < 0 || p->gone)
		rc = why_set(why, ERR_CLOSED, "the MCP server %s has ended", p->cfg.definition->name);
	else if (p->out.len > 0 && p->out.len + m->len > UNSENT_MAX)
		rc = why_set(why, ERR_FULL, "the MCP server %s is not reading", p->cfg.definition->name);
	if (rc == OK) {
		strbuf_add(&p->out, m->text, m->len);
		strbuf_addc(&p->out, '\n');
		p->queued += m->len + 1;
		write_some(p);
	}
	*ret_end = p->queued;
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* Whether it is gone; *ret_fd is where to wait. */
static bool is_written(struct mcp_process *p, uint64_t end, int *ret_fd, bool *ret_closed, uint64_t *ret_at)
{
	bool yes;

	pthread_mutex_lock(&p->lock);
	write_some(p);
	yes = p->written >= end;
	*ret_fd = p->in;
	*ret_closed = p->in < 0 || p->gone;
	*ret_at = p->written;
	pthread_mutex_unlock(&p->lock);
	return yes;
}

/* Requests wait until the process has taken them, as long as it takes anything; answers and notifications do not. */
static int process_send(void *ctx, const struct mcp_out *m, struct why *why)
{
	struct mcp_process *p = ctx;
	uint64_t end = 0, at = 0, before = 0;
	int64_t moved_ms = clock_mono_ms();
	bool closed = false;
	int fd = -1, rc = queue_message(p, m, &end, why);

	if (rc != OK || m->id == 0)
		return rc;
	while (!is_written(p, end, &fd, &closed, &at)) {
		struct pollfd w = {fd, POLLOUT, 0};
		int64_t now = clock_mono_ms();

		if (closed)
			return why_set(why, ERR_CLOSED, "the MCP server %s has ended", p->cfg.definition->name);
		if (m->stop != NULL && atomic_load(m->stop))
			return why_set(why, ERR_CANCELLED, "the call was cancelled");
		if (at != before)
			moved_ms = now;
		before = at;
		if (now - moved_ms >= NOT_READING_MS || now >= m->deadline_mono_ms)
			return why_set(why, ERR_FULL, "the MCP server %s is not reading", p->cfg.definition->name);
		poll(&w, 1, 50);
	}
	return OK;
}

static void process_log(void *ctx, const char *level, const char *text)
{
	struct mcp_process *p = ctx;
	AUTO_STR clean = redact_text(p->cfg.definition->redactor, text);

	log_debug("mcp.said", "server=%s level=%s text=%s", log_quote(p->cfg.definition->name), level,
	    log_quote(clean != NULL ? clean : text));
}

static void process_tools_changed(void *ctx)
{
	struct mcp_process *p = ctx;

	p->cfg.tools_changed(p->cfg.ctx);
}

/* As a file: URI has it. */
static char *file_uri(const char *path)
{
	struct strbuf b = STRBUF(16 * 1024);

	strbuf_adds(&b, "file://");
	for (; *path != '\0'; path++) {
		unsigned char c = (unsigned char)*path;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    strchr("/-._~", (char)c) != NULL)
			strbuf_addc(&b, (char)c);
		else
			strbuf_addf(&b, "%%%02X", c);
	}
	return strbuf_take(&b);
}

static json_t *process_roots(void *ctx)
{
	struct mcp_process *p = ctx;
	const char *const *roots;
	size_t n = session_roots(p->cfg.session, &roots);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		const char *slash = strrchr(roots[i], '/');
		AUTO_STR uri = file_uri(roots[i]);
		json_t *root = json_object();

		json_put(root, "uri", uri);
		json_put_new(root, "name",
		    json_lossy(slash != NULL ? slash + 1 : roots[i], strlen(slash != NULL ? slash + 1 : roots[i])));
		json_array_append_new(list, root);
	}
	return list;
}

/* One line, without its end. What is no JSON is skipped, unless nothing else comes. */
static void take_line(struct mcp_process *p, const char *line, size_t len)
{
	struct why why = {""};
	int rc;

	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len == 0)
		return;
	rc = mcp_session_receive(p->session, line, len, &why);
	if (rc == OK) {
		p->bad_lines = 0;
		return;
	}
	log_debug("mcp.line.skipped", "server=%s reason=%s", log_quote(p->cfg.definition->name), log_quote(why.text));
	if (++p->bad_lines >= BAD_LINES_MAX) {
		set_fault(p, "it wrote %d lines in a row that are no messages: its stdout must hold nothing else",
		    BAD_LINES_MAX);
		p->stop = true;
	}
}

static void take_stdout(struct mcp_process *p, const char *at, size_t len)
{
	while (len > 0 && !p->stop) {
		const char *end = memchr(at, '\n', len);
		size_t n = end != NULL ? (size_t)(end - at) : len;

		if (end != NULL && p->line.len == 0) {
			take_line(p, at, n);
		} else if (strbuf_add(&p->line, at, n) != OK) {
			set_fault(p, "it sent a message larger than 16 MiB");
			p->stop = true;
		} else if (end != NULL) {
			take_line(p, strbuf_str(&p->line), p->line.len);
			strbuf_clear(&p->line);
			if (p->line.cap > 64 * 1024)
				strbuf_fini(&p->line);
		}
		at += n + (end != NULL);
		len -= n + (end != NULL);
	}
}

static void take_stderr(struct mcp_process *p, const char *at, size_t len)
{
	size_t skip = len > SAID_MAX ? len - SAID_MAX : 0;

	pthread_mutex_lock(&p->lock);
	at += skip;
	len -= skip;
	if (p->said.len + len > SAID_MAX)
		strbuf_consume(&p->said, p->said.len + len - SAID_MAX);
	strbuf_add(&p->said, at, len);
	pthread_mutex_unlock(&p->lock);
	if (log_enabled(LOG_DEBUG)) {
		AUTO_STR text = text_to_utf8(at, len);
		process_log(p, "stderr", text);
	}
}

static void on_output(void *ctx, int stream, const void *data, size_t len)
{
	struct mcp_process *p = ctx;

	if (p->child_in >= 0)
		close(p->child_in);
	p->child_in = -1;
	pthread_mutex_lock(&p->lock);
	p->heard_ms = clock_mono_ms();
	pthread_mutex_unlock(&p->lock);
	if (stream == 1)
		take_stdout(p, data, len);
	else
		take_stderr(p, data, len);
}

/* Runs the program to its end. */
static void process_thread(void *arg)
{
	struct mcp_process *p = arg;
	const struct mcp_definition *d = p->cfg.definition;
	struct session *s = p->cfg.session;
	struct exec_result r = {0};
	struct why why = {""};
	const struct exec_spec spec = EXEC_SPEC(.argv = (const char *const *)d->argv, .box = session_box(s),
	    .cwd = session_box(s) != NULL ? session_primary_root(s) : NULL, .stdin_fd = p->child_in,
	    .env = (const char *const *)d->env, .agent_id = session_agent_id(s), .scratch_dir = session_program_mark(s),
	    .call_id = "mcp", .cancel_fd = p->cancel_fd, .on_output = on_output, .on_output_ctx = p, .service = true,
	    .stop = &p->stop);
	struct exec_spec run = spec;
	int cwd_fd = -1, rc;

	if (run.cwd == NULL) {
		cwd_fd = open(session_primary_root(s), O_PATH | O_DIRECTORY | O_CLOEXEC);
		run.cwd_fd = MAX(cwd_fd, 0);
	}
	rc = exec_run(&run, &r, &why);
	if (rc != OK)
		set_fault(p, "%s", why.text);
	else if (r.cancelled)
		set_fault(p, "it was ended");
	else if (r.signal != 0)
		set_fault(p, "it was ended by signal %d", r.signal);
	else
		set_fault(p, "it ended with status %d", r.exit_code);
	exec_result_fini(&r);
	if (cwd_fd >= 0)
		close(cwd_fd);
	AUTO_STR fault = mcp_process_fault(p);
	AUTO_STR sentence = str_printf("the MCP server %s is gone, the outcome is unknown: %s", d->name, fault);

	mcp_session_close(p->session, sentence);
	pthread_mutex_lock(&p->lock);
	p->gone = true;
	pthread_mutex_unlock(&p->lock);
	p->cfg.ended(p->cfg.ctx);
	pthread_mutex_lock(&p->lock);
	p->ended = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

static void process_drop(struct mcp_process *p)
{
	if (p->in >= 0)
		close(p->in);
	if (p->child_in >= 0)
		close(p->child_in);
	if (p->cancel_fd >= 0)
		close(p->cancel_fd);
	mcp_session_free(&p->session);
	strbuf_fini(&p->line);
	strbuf_fini(&p->said);
	strbuf_fini(&p->out);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int mcp_process_new(const struct mcp_process_config *cfg, struct mcp_process **ret, struct why *why)
{
	struct mcp_process *p = NEW(struct mcp_process);
	pthread_condattr_t attr;
	int fds[2] = {-1, -1};

	*p = (struct mcp_process){.cfg = *cfg,
	    .line = STRBUF(MCP_MESSAGE_MAX),
	    .said = STRBUF(SAID_MAX),
	    .out = STRBUF(MCP_MESSAGE_MAX + UNSENT_MAX + 2),
	    .heard_ms = clock_mono_ms(),
	    .in = -1,
	    .child_in = -1};
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->cond, &attr);
	pthread_condattr_destroy(&attr);
	p->session = mcp_session_new(&(struct mcp_transport){.send = process_send,
					 .tools_changed = process_tools_changed,
					 .log = process_log,
					 .roots = process_roots,
					 .ctx = p},
	    cfg->times != NULL ? cfg->times : &MCP_TIMES_STDIO);
	p->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->cancel_fd < 0 || pipe2(fds, O_CLOEXEC) != 0) {
		int rc = why_set(why, err_from_errno(errno), "no pipe: %s", strerror(errno));
		process_drop(p);
		return rc;
	}
	p->child_in = fds[0];
	p->in = fds[1];
	fcntl(p->in, F_SETFL, O_NONBLOCK);
	if (thread_start("mcp-process", STACK, process_thread, p) != OK) {
		process_drop(p);
		return why_set(why, ERR_FULL, "the worker has no thread left");
	}
	*ret = p;
	return OK;
}

/* True: it has ended. */
static bool process_wait(struct mcp_process *p, int64_t ms)
{
	int64_t until = clock_mono_ms() + ms;
	const struct timespec ts = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
	bool ended;

	pthread_mutex_lock(&p->lock);
	while (!p->ended && clock_mono_ms() < until)
		pthread_cond_timedwait(&p->cond, &p->lock, &ts);
	ended = p->ended;
	pthread_mutex_unlock(&p->lock);
	return ended;
}

void mcp_process_free(struct mcp_process **pp)
{
	struct mcp_process *p = TAKE(*pp);

	if (p == NULL)
		return;
	mcp_session_close(p->session, "the MCP server is being ended");
	pthread_mutex_lock(&p->lock);
	if (p->in >= 0)
		close(p->in);
	p->in = -1;
	pthread_mutex_unlock(&p->lock);
	if (!process_wait(p, POLITE_MS))
		IGNORE(eventfd_write(p->cancel_fd, 1));
	while (!process_wait(p, 60000))
		log_warn("mcp.process.stuck", "server=%s", log_quote(p->cfg.definition->name));
	process_drop(p);
}

struct mcp_session *mcp_process_session(struct mcp_process *p)
{
	return p->session;
}

bool mcp_process_has_ended(struct mcp_process *p)
{
	bool gone;

	pthread_mutex_lock(&p->lock);
	gone = p->gone;
	pthread_mutex_unlock(&p->lock);
	return gone;
}

int64_t mcp_process_silence_ms(struct mcp_process *p)
{
	int64_t ms;

	pthread_mutex_lock(&p->lock);
	ms = clock_mono_ms() - p->heard_ms;
	pthread_mutex_unlock(&p->lock);
	return ms;
}

char *mcp_process_fault(struct mcp_process *p)
{
	AUTO_STR fault = NULL;
	AUTO_STR said = NULL;
	AUTO_STR all = NULL;
	AUTO_STR clean = NULL;
	size_t cut;

	pthread_mutex_lock(&p->lock);
	fault = str_dup(p->fault);
	cut = p->said.len > SAID_TOLD ? p->said.len - SAID_TOLD : 0;
	said = p->said.len > 0 ? text_to_utf8(p->said.data + cut, p->said.len - cut) : str_dup("");
	pthread_mutex_unlock(&p->lock);
	AUTO_STR trimmed = text_trim(said);
	all = str_printf("%s%s%s", fault, trimmed[0] != '\0' ? "; it said: " : "", trimmed);
	clean = redact_text(p->cfg.definition->redactor, all);
	return text_line(clean != NULL ? clean : all, 900);
}
