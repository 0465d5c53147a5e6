#include "agent/worker/identity.h"
#include "agent/worker/options.h"
#include "base/id.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_MAX 128

static char *default_data_dir(void)
{
	const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

	if (xdg != NULL && xdg[0] == '/')
		return str_printf("%s/agent-worker", xdg);
	if (home != NULL && home[0] == '/')
		return str_printf("%s/.local/share/agent-worker", home);
	return NULL;
}

/* Made and writable; its real path. */
static char *open_dir(const char *wanted)
{
	char *real;

	if (wanted == NULL || folder_make(wanted, NULL) != OK)
		return NULL;
	real = realpath(wanted, NULL);
	if (real != NULL && access(real, W_OK | X_OK) != 0)
		str_free(&real);
	return real;
}

static int lock(struct identity *id, bool wait, struct why *why)
{
	AUTO_STR path = str_printf("%s/worker.lock", id->data_dir);
	char pid[32] = "";
	ssize_t n;
	int rc;

	id->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (id->lock_fd < 0)
		return why_set(why, ERR_IO, "cannot open %s: %s", path, strerror(errno));
	do
		rc = flock(id->lock_fd, LOCK_EX | (wait ? 0 : LOCK_NB));
	while (rc != 0 && errno == EINTR);
	if (rc != 0) {
		n = pread(id->lock_fd, pid, sizeof pid - 1, 0);
		pid[strspn(pid, "0123456789")] = '\0';
		return why_set(why, ERR_CONFLICT,
		    "the data directory %s is in use by process %s (give each worker its own --data-dir)", id->data_dir,
		    n > 0 && pid[0] != '\0' ? pid : "unknown");
	}
	n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
	IGNORE(ftruncate(id->lock_fd, 0));
	IGNORE(pwrite(id->lock_fd, pid, (size_t)n, 0));
	return OK;
}

/* The name of the id file: what makes this the same worker after a restart. */
static char *id_file_path(const struct identity *id, const struct worker_options *o)
{
	char principal[SHA256_HEX_LEN], name[SHA256_HEX_LEN];
	AUTO_STR machine = NULL;
	struct strbuf b = STRBUF(64 * 1024);
	const char *who;
	size_t len;

	/* Tokens in a file come and go; where it is stays. */
	who = o->api_key != NULL ? o->api_key : o->auth_token != NULL ? o->auth_token : o->auth_token_file;
	who = who != NULL ? who : "";
	sha256_hex(who, strlen(who), principal);
	if (text_read_file("/etc/machine-id", 256, &machine, &len) != OK)
		machine = str_dup("");
	strbuf_addf(&b, "%s|%s|%s|%s|%s|%s", o->endpoint, principal, o->pool != NULL ? "pool" : "personal", o->dirs[0],
	    id->host, machine);
	sha256_hex(b.data, b.len, name);
	strbuf_fini(&b);
	return str_printf("%s/workers/%s.id", id->data_dir, name);
}

/* Whole or not at all, so that a crash leaves the old id or the new one. */
static int write_id(const struct identity *id)
{
	AUTO_STR path = str_printf("%s.new", id->id_file);
	AUTO_STR line = str_printf("%s\n", id->worker_id);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool ok;

	if (fd < 0)
		return err_from_errno(errno);
	ok = write(fd, line, strlen(line)) == (ssize_t)strlen(line) && fsync(fd) == 0;
	ok = close(fd) == 0 && ok;
	return ok && rename(path, id->id_file) == 0 ? OK : ERR_IO;
}

static void new_id(struct identity *id, char **ret_warning)
{
	char uuid[UUID_LEN];

	id_uuid(uuid);
	str_set(&id->worker_id, uuid);
	if (id->id_file != NULL && write_id(id) != OK) {
		if (ret_warning != NULL)
			str_set(ret_warning, "the worker id cannot be kept: the next start will have another");
		str_free(&id->id_file);
	}
}

static void take_id(struct identity *id, const struct worker_options *o, char **ret_warning)
{
	AUTO_STR dir = NULL;
	AUTO_STR text = NULL;
	size_t len;

	if (o->worker_id != NULL) {
		id->worker_id = str_dup(o->worker_id);
		return;
	}
	id->generated = true;
	if (id->data_dir != NULL) {
		dir = str_printf("%s/workers", id->data_dir);
		IGNORE(folder_make(dir, NULL));
		id->id_file = id_file_path(id, o);
		if (text_read_file(id->id_file, ID_MAX + 2, &text, &len) == OK)
			id->worker_id = text_trim(text);
		if (id->worker_id != NULL && text_is_token(id->worker_id, "._:-", ID_MAX))
			return;
	}
	new_id(id, ret_warning);
}

char *identity_host(void)
{
	char name[256] = "";

	if (gethostname(name, sizeof name - 1) != 0 || name[0] == '\0')
		return str_dup("worker");
	return text_to_utf8(name, strlen(name));
}

int identity_take(const struct worker_options *o, struct identity *ret, char **ret_warning, struct why *why)
{
	AUTO_STR fallback = o->data_dir == NULL ? default_data_dir() : NULL;
	int rc = OK;

	*ret = (struct identity){.lock_fd = -1, .host = identity_host()};
	ret->data_dir = open_dir(o->data_dir != NULL ? o->data_dir : fallback);
	if (ret->data_dir == NULL && o->data_dir != NULL)
		return why_set(why, ERR_IO, "the data directory %.300s cannot be used", o->data_dir);
	if (ret->data_dir != NULL) {
		rc = lock(ret, o->wait, why);
		if (rc != OK)
			return rc;
		ret->state_dir = str_printf("%s/sessions", ret->data_dir);
	} else {
		const char *tmp = getenv("TMPDIR");

		str_set(ret_warning, "there is no writable data directory: the worker id is for this process only");
		ret->state_dir = str_printf("%s/agent-worker-XXXXXX", tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
		if (mkdtemp(ret->state_dir) == NULL)
			return why_set(why, ERR_IO, "no directory for scratch files can be made");
	}
	if (folder_make(ret->state_dir, NULL) != OK)
		return why_set(why, ERR_IO, "%s cannot be made", ret->state_dir);
	take_id(ret, o, ret_warning);
	return OK;
}

void identity_renew(struct identity *id)
{
	ENSURE(id->generated);
	new_id(id, NULL);
}

void identity_fini(struct identity *id)
{
	if (id->lock_fd >= 0)
		close(id->lock_fd); /* gives the lock back */
	id->lock_fd = -1;
	str_free(&id->data_dir);
	str_free(&id->state_dir);
	str_free(&id->worker_id);
	str_free(&id->id_file);
	str_free(&id->host);
}

char *identity_data_dir(const struct worker_options *o)
{
	return o->data_dir != NULL ? str_dup(o->data_dir) : default_data_dir();
}

char *identity_look(const struct worker_options *o)
{
	struct identity id = {.lock_fd = -1, .host = identity_host(), .data_dir = identity_data_dir(o)};
	char *found = str_dup(o->worker_id);
	AUTO_STR path = NULL;
	AUTO_STR text = NULL;
	size_t len;

	if (found == NULL && id.data_dir != NULL) {
		path = id_file_path(&id, o);
		if (text_read_file(path, ID_MAX + 2, &text, &len) == OK)
			found = text_trim(text);
		if (found != NULL && !text_is_token(found, "._:-", ID_MAX))
			str_free(&found);
	}
	free(id.host);
	free(id.data_dir);
	return found;
}
