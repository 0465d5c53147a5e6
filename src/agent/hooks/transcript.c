#include "agent/hooks/transcript.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A session has one conversation and one for each of its subagents. */
#define CONVERSATIONS_MAX 256
#define FILE_MAX ((size_t)64 * 1024 * 1024)
#define PIECE_MAX ((size_t)4 * 1024 * 1024)

struct transcript {
	char *conversation_id;
	int64_t next; /* the position that comes next */
	size_t bytes;
	bool full; /* its file ends early */
};

struct transcripts {
	char *dir, *keep_dir;
	struct transcript *v;
	size_t n, cap;
	pthread_mutex_t lock;
};

static char *file_of(const struct transcripts *t, const char *dir, const char *conversation_id)
{
	return str_printf("%s/%s.jsonl", dir != NULL ? dir : t->dir, conversation_id);
}

static void empty_folder(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			IGNORE(unlinkat(dirfd(d), e->d_name, 0));
	if (d != NULL)
		closedir(d);
}

struct transcripts *transcripts_new(const char *dir, const char *keep_dir)
{
	struct transcripts *t = NEW(struct transcripts);

	t->dir = str_dup(dir);
	t->keep_dir = str_dup(keep_dir);
	pthread_mutex_init(&t->lock, NULL);
	empty_folder(dir);
	return t;
}

/* What was kept under that name is of an earlier claim, and is in this one as well: the conversation is told whole. */
static void keep(const struct transcripts *t, const struct transcript *x)
{
	AUTO_STR from = file_of(t, NULL, x->conversation_id);
	AUTO_STR to = file_of(t, t->keep_dir, x->conversation_id);
	struct why why = {""};

	if (folder_make(t->keep_dir, &why) != OK)
		log_warn("hooks.transcript.lost", "conversation=%s reason=%s", x->conversation_id, log_quote(why.text));
	else if (rename(from, to) != 0 && errno != ENOENT)
		log_warn("hooks.transcript.lost", "conversation=%s reason=%s", x->conversation_id, strerror(errno));
}

void transcripts_free(struct transcripts **tp)
{
	struct transcripts *t = TAKE(*tp);

	if (t == NULL)
		return;
	for (size_t i = 0; i < t->n; i++) {
		if (t->keep_dir != NULL && t->v[i].bytes > 0)
			keep(t, &t->v[i]);
		free(t->v[i].conversation_id);
	}
	empty_folder(t->dir);
	pthread_mutex_destroy(&t->lock);
	free(t->v);
	free(t->dir);
	free(t->keep_dir);
	free(t);
}

static struct transcript *find(struct transcripts *t, const char *id)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->v[i].conversation_id, id) == 0)
			return &t->v[i];
	return NULL;
}

/* NULL: a name that is none, or too many. */
static struct transcript *make(struct transcripts *t, const char *id)
{
	struct transcript *x = find(t, id);

	if (x != NULL || id[0] == '.' || !text_is_token(id, "._-", 128) || t->n == CONVERSATIONS_MAX)
		return x;
	t->v = mem_grow(t->v, &t->cap, t->n + 1, sizeof *t->v);
	x = &t->v[t->n++];
	*x = (struct transcript){.conversation_id = str_dup(id)};
	return x;
}

/* One line that is not of the conversation: something is missing here. */
static void add_gap(struct strbuf *b, const char *what)
{
	IGNORE(strbuf_addf(
	    b, "{\"role\":\"system\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"(%s)\"}]}}\n", what));
}

static void add_lines(struct strbuf *b, const json_t *lines, int64_t from)
{
	json_t *item;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)lines, i, item)
	{
		const json_t *at = json_object_get(item, "at"), *line = json_object_get(item, "line");
		AUTO_STR text = NULL;

		if (!json_is_integer(at) || json_integer_value(at) < from || !json_is_object(line))
			continue;
		text = json_text(line);
		if (strbuf_adds(b, text) == OK)
			IGNORE(strbuf_addc(b, '\n'));
	}
}

/* In one write, so that who reads meanwhile finds whole lines. */
static bool append(const struct transcripts *t, const struct transcript *x, const struct strbuf *b)
{
	AUTO_STR path = file_of(t, NULL, x->conversation_id);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t n = fd >= 0 ? write(fd, b->data, b->len) : -1;

	if (n < 0 || (size_t)n < b->len)
		log_warn("hooks.transcript.failed", "conversation=%s reason=%s", x->conversation_id, strerror(errno));
	if (fd >= 0)
		close(fd);
	return n >= 0 && (size_t)n == b->len;
}

static void take(struct transcripts *t, struct transcript *x, int64_t from, int64_t upto, const json_t *lines)
{
	struct strbuf b = STRBUF(PIECE_MAX);

	if (x->full || upto <= x->next)
		return;
	if (from > x->next)
		add_gap(&b, "messages are missing here");
	add_lines(&b, lines, x->next);
	if (x->bytes + b.len > FILE_MAX) {
		strbuf_clear(&b);
		add_gap(&b, "the rest is left out: this file has its largest size");
		x->full = true;
	}
	if (b.len == 0 || append(t, x, &b)) {
		x->next = upto;
		x->bytes += b.len;
	}
	strbuf_fini(&b);
}

void transcripts_take(struct transcripts *t, const char *conversation_id, const json_t *news)
{
	const json_t *from = json_object_get(news, "from"), *upto = json_object_get(news, "upto");
	struct transcript *x;

	if (!json_is_integer(from) || !json_is_integer(upto) || conversation_id == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	x = make(t, conversation_id);
	if (x != NULL)
		take(t, x, json_integer_value(from), json_integer_value(upto), json_object_get(news, "lines"));
	pthread_mutex_unlock(&t->lock);
}

char *transcripts_path(struct transcripts *t, const char *conversation_id)
{
	const struct transcript *x;
	char *path = NULL;

	pthread_mutex_lock(&t->lock);
	x = find(t, conversation_id);
	if (x != NULL && x->bytes > 0)
		path = file_of(t, NULL, x->conversation_id);
	pthread_mutex_unlock(&t->lock);
	return path;
}

int64_t transcripts_next(struct transcripts *t, const char *conversation_id)
{
	const struct transcript *x;
	int64_t next;

	pthread_mutex_lock(&t->lock);
	x = find(t, conversation_id);
	next = x != NULL ? x->next : 0;
	pthread_mutex_unlock(&t->lock);
	return next;
}
