/* The storage in S3: reading, forgetting, what is there, links, and whether it works at all. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/artifacts/s3_priv.h"
#include <string.h>

#define READ_AHEAD ((size_t)512 * 1024)
#define IDLE_MAX 16
#define IDLE_MS 20000
#define UPLOAD_PAGES_MAX 100
#define MARK ".bullpen-installation"

struct storage_file {
	struct s3 *s3;
	char *object;
	struct strbuf ahead; /* from `at` on */
	int64_t at;
	bool all; /* `ahead` is the whole */
};

struct s3 *s3_of(struct storage *s)
{
	return OBJ_FROM(s3, (void *)s, S3_MAGIC);
}

/* Beside the content, for this server's own purposes. */
static char *own_object(const struct s3 *s, const char *name)
{
	return str_printf("%s%s%s", s->prefix, s->prefix[0] != '\0' ? "/" : "", name);
}

/* The key of an object of ours; NULL: it is none. Borrowed from it. */
static const char *key_of(const struct s3 *s, const char *object)
{
	const char *at = object;
	size_t len = strlen(s->prefix);

	if (len > 0 && (!text_has_prefix(object, s->prefix) || object[len] != '/'))
		return NULL;
	at += len > 0 ? len + 1 : 0;
	return strlen(at) == UUID_LEN - 1 + 3 && at[2] == '/' && memcmp(at, at + 3, 2) == 0 && id_is(at + 3, "")
		   ? at + 3
		   : NULL;
}

/* A page of objects (uploads: of those that are not finished) whose names begin with `prefix`, from *from on. */
static int list_page(
    struct s3 *s, bool uploads, const char *prefix, const struct s3_page *from, struct s3_page *ret, struct why *why)
{
	struct s3_request rq = {.method = "GET", .xml = true};
	AUTO_FINI(s3_answer) a = {0};
	int rc;

	rq.query[rq.n_query++] = uploads ? (struct sigv4_pair){"uploads", ""} : (struct sigv4_pair){"list-type", "2"};
	rq.query[rq.n_query++] = (struct sigv4_pair){"prefix", prefix};
	if (from != NULL && from->next != NULL)
		rq.query[rq.n_query++] = (struct sigv4_pair){uploads ? "key-marker" : "continuation-token", from->next};
	if (from != NULL && uploads && from->next_upload != NULL)
		rq.query[rq.n_query++] = (struct sigv4_pair){"upload-id-marker", from->next_upload};
	rc = s3_do(s, &rq, &a, why);
	if (rc == OK && s3_xml_page(strbuf_str(&a.body), a.body.len, ret) != OK)
		rc = why_set(why, ERR_NET, "%s answers a list that is none", s->inner.host);
	return rc == ERR_NOT_FOUND ? ERR_NET : rc;
}

int s3_size(struct s3 *s, const char *key, int64_t *ret)
{
	AUTO_STR object = s3_object(s, key);
	AUTO_FINI(s3_page) page = {0};
	int rc = list_page(s, false, object, NULL, &page, NULL);

	for (size_t i = 0; rc == OK && i < page.n; i++)
		if (page.items[i].key != NULL && strcmp(page.items[i].key, object) == 0) {
			*ret = page.items[i].size;
			return OK;
		}
	return rc != OK ? rc : ERR_NOT_FOUND;
}

int s3_each_upload(struct s3 *s, const char *object, int (*fn)(void *ctx, const struct s3_item *it), void *ctx)
{
	AUTO_FINI(s3_page) page = {0};
	int rc = list_page(s, true, object, NULL, &page, NULL);

	for (int n = 1; rc == OK; n++) {
		struct s3_page next = {0};

		for (size_t i = 0; rc == OK && i < page.n; i++)
			if (page.items[i].key != NULL && strcmp(page.items[i].key, object) == 0)
				rc = fn(ctx, &page.items[i]);
		if (rc != OK || page.next == NULL || n == UPLOAD_PAGES_MAX)
			break;
		rc = list_page(s, true, object, &page, &next, NULL);
		s3_page_fini(&page);
		page = next;
	}
	return rc;
}

int s3_abort_upload(struct s3 *s, const char *object, const char *upload_id, struct why *why)
{
	const struct s3_request rq = {
	    .method = "DELETE", .object = object, .query = {{"uploadId", upload_id}}, .n_query = 1};
	AUTO_FINI(s3_answer) a = {0};
	int rc = s3_do(s, &rq, &a, why);

	return rc == ERR_NOT_FOUND ? OK : rc;
}

/* The bytes from `offset` on, at most `len`. ERR_EMPTY: there are none. */
static int fetch(
    struct s3 *s, const char *object, int64_t offset, size_t len, struct strbuf *ret, bool *ret_all, struct why *why)
{
	AUTO_STR range = str_printf("bytes=%lld-%lld", (long long)offset, (long long)offset + (long long)len - 1);
	const struct s3_request rq = {.method = "GET", .object = object, .range = range, .max_body = len};
	AUTO_FINI(s3_answer) a = {0};
	int rc = s3_do(s, &rq, &a, why);

	/* One that does not know ranges sends all of it. */
	if (rc == OK && a.status != 206 && offset > 0)
		rc = why_set(why, ERR_NET, "%s does not answer ranges of bytes", s->inner.host);
	if (rc == OK && a.body.len == 0)
		rc = ERR_EMPTY;
	if (rc != OK)
		return rc;
	*ret_all = a.status == 200;
	*ret = a.body;
	a.body = STRBUF(0);
	return OK;
}

static int s3_open(struct storage *st, const char *key, struct storage_file **ret)
{
	struct s3 *s = s3_of(st);
	struct storage_file *f;
	int rc;

	if (!id_is(key, ""))
		return ERR_INTERNAL;
	f = NEW(struct storage_file);
	f->s3 = s;
	f->object = s3_object(s, key);
	rc = fetch(s, f->object, 0, READ_AHEAD, &f->ahead, &f->all, NULL);
	if (rc == ERR_EMPTY)
		f->all = true;
	if (rc == OK || rc == ERR_EMPTY)
		*ret = f;
	else
		s->storage.kind->close(&f);
	return rc == ERR_EMPTY ? OK : rc;
}

static int s3_read(struct storage_file *f, int64_t offset, void *buf, size_t len, size_t *ret_len)
{
	int64_t behind = f->at + (int64_t)f->ahead.len;
	size_t n;

	if (offset < f->at || offset >= behind) {
		struct strbuf got = {0};
		bool all = false;
		int rc = f->all ? ERR_EMPTY : fetch(f->s3, f->object, offset, MAX(len, READ_AHEAD), &got, &all, NULL);

		if (rc != OK)
			return rc;
		strbuf_fini(&f->ahead);
		f->ahead = got;
		f->at = offset;
	}
	n = MIN(len, f->ahead.len - (size_t)(offset - f->at));
	memcpy(buf, f->ahead.data + (offset - f->at), n);
	*ret_len = n;
	return OK;
}

static void s3_close(struct storage_file **fp)
{
	struct storage_file *f = TAKE(*fp);

	if (f == NULL)
		return;
	strbuf_fini(&f->ahead);
	free(f->object);
	free(f);
}

static int delete_object(struct s3 *s, const char *object, struct why *why)
{
	const struct s3_request rq = {.method = "DELETE", .object = object};
	AUTO_FINI(s3_answer) a = {0};
	int rc = s3_do(s, &rq, &a, why);

	return rc == ERR_NOT_FOUND ? OK : rc;
}

struct abortion {
	struct s3 *s3;
	const char *object;
};

static int abort_one(void *ctx, const struct s3_item *it)
{
	const struct abortion *a = ctx;

	return it->upload_id != NULL ? s3_abort_upload(a->s3, a->object, it->upload_id, NULL) : OK;
}

static int s3_forget(struct storage *st, const char *key)
{
	struct s3 *s = s3_of(st);
	AUTO_STR object = NULL;
	struct abortion a = {.s3 = s};
	int rc;

	if (!id_is(key, ""))
		return ERR_INTERNAL;
	a.object = object = s3_object(s, key);
	s3_upload_forget(s, key);
	rc = delete_object(s, object, NULL);
	return rc != OK ? rc : s3_each_upload(s, object, abort_one, &a);
}

static int put_object(struct s3 *s, const char *object, const char *text, struct why *why)
{
	const struct s3_request rq = {.method = "PUT", .object = object, .body = text, .body_len = strlen(text)};
	AUTO_FINI(s3_answer) a = {0};

	return s3_do(s, &rq, &a, why);
}

/* What is swept away under a prefix that another installation has is lost, so the first one leaves its name there. */
static int check_owner(struct s3 *s, struct why *why)
{
	AUTO_STR object = own_object(s, MARK);
	struct strbuf got = {0};
	bool all;
	int rc = fetch(s, object, 0, READ_AHEAD, &got, &all, why);

	if (rc == ERR_NOT_FOUND || rc == ERR_EMPTY)
		rc = put_object(s, object, s->installation, why);
	else if (rc == OK && strcmp(strbuf_str(&got), s->installation) != 0)
		rc = why_set(why, ERR_DENIED,
		    "another installation keeps its artifacts in '%s' below '%s' (it left %s there): set another "
		    "s3.prefix for one of them",
		    s->bucket, s->prefix, object);
	strbuf_fini(&got);
	return rc;
}

struct sweep {
	storage_judge *judge;
	void *ctx;
};

static int sweep_item(struct s3 *s, const struct sweep *w, bool uploads, const struct s3_item *it, struct why *why)
{
	const char *key = it->key != NULL ? key_of(s, it->key) : NULL;
	bool needed = true;
	int rc;

	if (key == NULL || (uploads && it->upload_id == NULL))
		return OK;
	rc = w->judge(w->ctx, key, !uploads, it->at_ms, &needed);
	if (rc != OK || needed)
		return rc;
	return uploads ? s3_abort_upload(s, it->key, it->upload_id, why) : delete_object(s, it->key, why);
}

static int sweep_list(struct s3 *s, const struct sweep *w, bool uploads, struct why *why)
{
	AUTO_STR prefix = own_object(s, "");
	AUTO_FINI(s3_page) page = {0};
	int rc = list_page(s, uploads, prefix, NULL, &page, why);

	while (rc == OK) {
		struct s3_page next = {0};

		for (size_t i = 0; rc == OK && i < page.n; i++)
			rc = sweep_item(s, w, uploads, &page.items[i], why);
		if (rc != OK || page.next == NULL)
			break;
		rc = list_page(s, uploads, prefix, &page, &next, why);
		s3_page_fini(&page);
		page = next;
	}
	return rc;
}

static int s3_sweep(struct storage *st, storage_judge *judge, void *ctx, struct why *why)
{
	struct s3 *s = s3_of(st);
	const struct sweep w = {.judge = judge, .ctx = ctx};
	int rc = check_owner(s, why);

	if (rc == OK)
		rc = sweep_list(s, &w, false, why);
	return rc != OK ? rc : sweep_list(s, &w, true, why);
}

/* No browser shows it, whatever it is: it is saved, as bytes. */
static char *s3_link(struct storage *st, const char *key, const char *disposition, int64_t now_ms, int64_t seconds)
{
	struct s3 *s = s3_of(st);
	AUTO_STR object = s3_object(s, key);
	AUTO_STR path = s3_path(s, object);
	AUTO_STR query = NULL;
	const struct sigv4_pair host = {"host", s->outer.host};
	const struct sigv4_pair asked[] = {{"response-content-disposition", disposition},
	    {"response-content-type", "application/octet-stream"}, {"response-cache-control", "private, no-store"}};
	const struct sigv4_request rq = {.method = "GET",
	    .path = path,
	    .query = asked,
	    .n_query = ARRAY_LEN(asked),
	    .headers = &host,
	    .n_headers = 1,
	    .payload = SIGV4_UNSIGNED};
	struct s3_credentials c = {0};
	char at[SIGV4_TIME_LEN];

	if (!s->direct)
		return NULL;
	s3_credentials_take(s, false, &c, NULL);
	sigv4_time(now_ms, at);
	const struct sigv4_who who = {.access_key = c.access_key,
	    .secret_key = c.secret_key,
	    .session_token = c.session_token,
	    .region = s->region,
	    .service = "s3"};

	query = sigv4_presign(&who, &rq, at, seconds);
	s3_credentials_fini(&c);
	return str_printf("%s%s?%s", s->outer.base, path, query);
}

static const char *s3_origin(struct storage *st)
{
	const struct s3 *s = s3_of(st);

	return s->direct ? s->outer.base : NULL;
}

/* An upload that begins and ends at once: other permissions than those for objects. */
static int check_upload(struct s3 *s, const char *object, struct why *why)
{
	AUTO_STR id = NULL;
	struct s3_page page = {0};
	struct why reason = {0};
	int rc = s3_begin_upload(s, object, &id, &reason);

	if (rc != OK)
		return why_set(why, ERR_NET, "an upload cannot be begun: %s", reason.text);
	rc = list_page(s, true, object, NULL, &page, &reason);
	s3_page_fini(&page);
	if (rc != OK)
		why_set(why, ERR_NET, "uploads cannot be listed: %s", reason.text);
	if (s3_abort_upload(s, object, id, &reason) != OK && rc == OK)
		rc = why_set(why, ERR_NET, "an upload cannot be aborted: %s", reason.text);
	return rc;
}

/* The object is there, with that text. */
static int check_probe(struct s3 *s, const char *object, const char *text, struct why *why)
{
	struct strbuf got = {0};
	struct why reason = {0};
	bool all;
	int rc = fetch(s, object, 0, READ_AHEAD, &got, &all, &reason);

	if (rc == OK && strcmp(strbuf_str(&got), text) != 0)
		rc = why_set(&reason, ERR_NET, "it has another content than was put there");
	strbuf_fini(&got);
	if (rc != OK)
		return why_set(why, ERR_NET, "an object cannot be fetched: %s", reason.text);
	rc = check_upload(s, object, why);
	return rc == OK && s->installation[0] != '\0' ? check_owner(s, why) : rc;
}

static int s3_check(struct storage *st, struct why *why)
{
	struct s3 *s = s3_of(st);
	AUTO_STR name = id_new(".probe-");
	AUTO_STR object = own_object(s, name);
	struct s3_page page = {0};
	struct why reason = {0};
	/* First of all what tells most: that the bucket is there, and the keys are right. */
	int rc = list_page(s, false, object, NULL, &page, &reason);

	s3_page_fini(&page);
	if (rc != OK)
		return why_set(why, ERR_NET, "the bucket cannot be listed: %s", reason.text);
	if (put_object(s, object, name, &reason) != OK)
		return why_set(why, ERR_NET, "an object cannot be put: %s", reason.text);
	rc = check_probe(s, object, name, why);
	if (delete_object(s, object, &reason) != OK && rc == OK)
		rc = why_set(why, ERR_NET, "an object cannot be deleted: %s", reason.text);
	return rc;
}

static char *s3_place(struct storage *st)
{
	const struct s3 *s = s3_of(st);

	return s->prefix[0] != '\0' ? str_printf("'%s' below '%s' at %s", s->bucket, s->prefix, s->inner.host)
				    : str_printf("'%s' at %s", s->bucket, s->inner.host);
}

static void s3_stop(struct storage *st)
{
	atomic_store(&s3_of(st)->stop, true);
}

static void s3_free(struct storage **sp)
{
	struct storage *st = TAKE(*sp);
	struct s3 *s;

	if (st == NULL)
		return;
	s = s3_of(st);
	s3_uploads_free(s);
	http_client_pool_free(&s->pool);
	s3_settings_fini(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct storage_kind s3_kind = {
    .announce = s3_announce,
    .received = s3_received,
    .begin = s3_begin,
    .write = s3_write,
    .finish = s3_finish,
    .end = s3_end,
    .open = s3_open,
    .read = s3_read,
    .close = s3_close,
    .forget = s3_forget,
    .sweep = s3_sweep,
    .link = s3_link,
    .origin = s3_origin,
    .check = s3_check,
    .place = s3_place,
    .stop = s3_stop,
    .free = s3_free,
    .max_bytes = (int64_t)S3_PART_BYTES * S3_PARTS_MAX,
};

int storage_s3_new(const json_t *settings, const char *installation, struct storage **ret, struct why *why)
{
	struct s3 *s = NEW(struct s3);
	struct storage *st = &s->storage;
	int rc;

	s->magic = S3_MAGIC;
	s->storage.kind = &s3_kind;
	snprintf(s->installation, sizeof s->installation, "%s", installation);
	pthread_mutex_init(&s->lock, NULL);
	rc = s3_read_settings(s, settings, why);
	if (rc != OK) {
		s3_free(&st);
		return rc;
	}
	s->pool = http_client_pool_new(IDLE_MAX, IDLE_MS);
	*ret = st;
	return OK;
}
