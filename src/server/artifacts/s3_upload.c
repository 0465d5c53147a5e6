/* How content gets to S3: in parts of 8 MiB, or as one object if it is smaller. What does not make a part yet is in
 * memory, from one request of the worker to the next; a crash or a long pause loses it, and the worker is told an
 * earlier offset. What S3 has of an upload is all that has to be known of it, so another process can go on. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/artifacts/s3_priv.h"
#include <openssl/evp.h>
#include <string.h>

/* With a part each in memory. One that nobody has written to for a minute makes room. */
#define UPLOADS_MAX 32
#define ABANDONED_MS 60000
#define XML_MAX ((size_t)2 * 1024 * 1024)
#define READ_BACK ((size_t)4 * 1024 * 1024)

struct s3_upload {
	struct s3_upload *next;
	char key[UUID_LEN];
	char *object, *id; /* id NULL: no part was sent yet */
	char **etags; /* of the parts */
	size_t n_parts, cap;
	struct strbuf rest; /* behind the parts */
	EVP_MD_CTX *hash; /* of everything so far; NULL: not all of it passed here */
	int64_t finished_size; /* -1: it is not finished */
	int64_t used_ms;
	bool busy; /* somebody has it; only who has it touches anything but this, next, used_ms and gone */
	bool gone; /* the key was forgotten, or what is here may not be so there: not to be found any more */
	int64_t stands; /* how many bytes there are, under the lock */
};

struct storage_piece {
	struct s3 *s3;
	struct s3_upload *u;
};

static void upload_free(struct s3_upload **up)
{
	struct s3_upload *u = TAKE(*up);

	if (u == NULL)
		return;
	for (size_t i = 0; i < u->n_parts; i++)
		free(u->etags[i]);
	free(u->etags);
	free(u->object);
	free(u->id);
	strbuf_fini(&u->rest);
	EVP_MD_CTX_free(u->hash);
	free(u);
}

/* Of who has it. */
static int64_t stands(const struct s3_upload *u)
{
	return u->finished_size >= 0 ? u->finished_size : (int64_t)(u->n_parts * S3_PART_BYTES) + (int64_t)u->rest.len;
}

static void start_hash(struct s3_upload *u)
{
	u->hash = EVP_MD_CTX_new();
	ENSURE(u->hash != NULL && EVP_DigestInit_ex(u->hash, EVP_sha256(), NULL) == 1);
}

/* Under the lock. */
static struct s3_upload *find(struct s3 *s, const char *key)
{
	ENSURE_LOCKED(&s->lock);
	for (struct s3_upload *u = s->uploads; u != NULL; u = u->next)
		if (!u->gone && strcmp(u->key, key) == 0)
			return u;
	return NULL;
}

static void unlink_upload(struct s3 *s, struct s3_upload *u)
{
	struct s3_upload **at = &s->uploads;

	ENSURE_LOCKED(&s->lock);
	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
}

/* Room for one more, under the lock; what had to go for it is *ret_old. */
static bool make_room(struct s3 *s, struct s3_upload **ret_old)
{
	struct s3_upload *oldest = NULL;
	size_t n = 0;

	for (struct s3_upload *u = s->uploads; u != NULL; u = u->next) {
		n++;
		if (!u->busy && (oldest == NULL || u->used_ms < oldest->used_ms))
			oldest = u;
	}
	if (n < UPLOADS_MAX)
		return true;
	if (oldest == NULL || clock_mono_ms() - oldest->used_ms < ABANDONED_MS)
		return false;
	unlink_upload(s, oldest);
	*ret_old = oldest;
	return true;
}

/* The part's hash is in the signature of its request, which S3 checks; its ETag is only what names it in the end. */
static int send_part(struct s3 *s, struct s3_upload *u, const char *bytes, size_t len, size_t number, char **ret_etag)
{
	AUTO_STR n = str_printf("%zu", number);
	const struct s3_request rq = {.method = "PUT",
	    .object = u->object,
	    .query = {{"partNumber", n}, {"uploadId", u->id}},
	    .n_query = 2,
	    .body = bytes,
	    .body_len = len};
	AUTO_FINI(s3_answer) a = {0};
	int rc = s3_do(s, &rq, &a, NULL);

	if (rc == OK && (a.etag == NULL || a.etag[0] == '\0' || strpbrk(a.etag, "<>&") != NULL))
		rc = ERR_NET;
	if (rc == OK)
		*ret_etag = TAKE(a.etag);
	return rc;
}

int s3_begin_upload(struct s3 *s, const char *object, char **ret, struct why *why)
{
	const struct s3_request rq = {
	    .method = "POST", .object = object, .query = {{"uploads", ""}}, .n_query = 1, .body = "", .xml = true};
	AUTO_FINI(s3_answer) a = {0};
	int rc = s3_do(s, &rq, &a, why);

	if (rc == OK && s3_xml_upload_id(strbuf_str(&a.body), a.body.len, ret) != OK)
		rc = why_set(why, ERR_NET, "%s does not say what an upload is called", s->inner.host);
	return rc;
}

/* What is in memory becomes a part. */
static int flush(struct s3 *s, struct s3_upload *u)
{
	char *etag = NULL;
	int rc = u->n_parts == S3_PARTS_MAX ? ERR_TOO_LARGE : OK;

	if (rc == OK && u->id == NULL)
		rc = s3_begin_upload(s, u->object, &u->id, NULL);
	if (rc == OK)
		rc = send_part(s, u, strbuf_str(&u->rest), u->rest.len, u->n_parts + 1, &etag);
	if (rc != OK)
		return rc;
	u->etags = mem_grow(u->etags, &u->cap, u->n_parts + 1, sizeof *u->etags);
	u->etags[u->n_parts++] = etag;
	strbuf_clear(&u->rest);
	return OK;
}

static int choose_upload(void *ctx, const struct s3_item *it)
{
	struct s3_upload *u = ctx;

	/* Of several, the last that was begun; the others go when the object is finished or forgotten. */
	if (it->upload_id != NULL)
		str_set(&u->id, it->upload_id);
	return OK;
}

static int list_parts(struct s3 *s, const struct s3_upload *u, const char *after, struct s3_page *ret)
{
	const struct s3_request rq = {.method = "GET",
	    .object = u->object,
	    .query = {{"uploadId", u->id}, {"part-number-marker", after}},
	    .n_query = 2,
	    .xml = true};
	AUTO_FINI(s3_answer) a = {0};
	int rc = s3_do(s, &rq, &a, NULL);

	if (rc == OK && s3_xml_page(strbuf_str(&a.body), a.body.len, ret) != OK)
		rc = ERR_NET;
	return rc;
}

/* Whole ones from the first on. A last, short one of an attempt that did not get to the end is sent again. */
static int take_parts(struct s3 *s, struct s3_upload *u)
{
	AUTO_STR after = str_dup("0");
	int rc = OK;
	bool more = true;

	while (rc == OK && more) {
		AUTO_FINI(s3_page) page = {0};

		rc = list_parts(s, u, after, &page);
		for (size_t i = 0; rc == OK && i < page.n && more; i++) {
			struct s3_item *it = &page.items[i];

			more = it->part == (int64_t)u->n_parts + 1 && it->size == (int64_t)S3_PART_BYTES &&
			       it->etag != NULL && u->n_parts < S3_PARTS_MAX;
			if (!more)
				break;
			u->etags = mem_grow(u->etags, &u->cap, u->n_parts + 1, sizeof *u->etags);
			u->etags[u->n_parts++] = TAKE(it->etag);
		}
		more = more && page.next != NULL;
		if (more)
			str_set(&after, page.next);
	}
	return rc;
}

/* What S3 knows of the key. */
static int load(struct s3 *s, struct s3_upload *u)
{
	int64_t size = 0;
	int rc = s3_size(s, u->key, &size);

	if (rc == OK)
		u->finished_size = size;
	if (rc != ERR_NOT_FOUND)
		return rc;
	rc = s3_each_upload(s, u->object, choose_upload, u);
	if (rc == OK && u->id != NULL)
		rc = take_parts(s, u);
	/* It ended in this moment. */
	if (rc == ERR_NOT_FOUND) {
		str_free(&u->id);
		rc = OK;
	}
	if (rc == OK && u->n_parts == 0)
		start_hash(u);
	return rc;
}

static struct s3_upload *upload_new(struct s3 *s, const char *key)
{
	struct s3_upload *u = NEW(struct s3_upload);

	snprintf(u->key, sizeof u->key, "%s", key);
	u->object = s3_object(s, key);
	u->rest = STRBUF(S3_PART_BYTES);
	u->finished_size = -1;
	return u;
}

void s3_announce(struct storage *st, const char *key)
{
	struct s3 *s = s3_of(st);

	pthread_mutex_lock(&s->lock);
	snprintf(s->fresh[s->next_fresh++ % S3_FRESH_MAX], UUID_LEN, "%s", key);
	pthread_mutex_unlock(&s->lock);
}

/* True once. */
static bool was_announced(struct s3 *s, const char *key)
{
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; !found && i < S3_FRESH_MAX; i++)
		if (strcmp(s->fresh[i], key) == 0) {
			s->fresh[i][0] = '\0';
			found = true;
		}
	pthread_mutex_unlock(&s->lock);
	return found;
}

int s3_received(struct storage *st, const char *key, int64_t *ret)
{
	struct s3 *s = s3_of(st);
	struct s3_upload *u;
	int rc;

	pthread_mutex_lock(&s->lock);
	u = find(s, key);
	if (u != NULL)
		*ret = u->stands;
	pthread_mutex_unlock(&s->lock);
	if (u != NULL)
		return OK;
	u = upload_new(s, key);
	rc = load(s, u);
	if (rc == OK)
		*ret = stands(u);
	upload_free(&u);
	return rc;
}

/* The one of that key, now ours; a new one (*ret_new) has to be loaded. ERR_AGAIN: somebody else has it; ERR_FULL:
 * there is no room. */
static int take_upload(struct s3 *s, const char *key, struct s3_upload **ret, bool *ret_new)
{
	struct s3_upload *old = NULL, *u;
	int rc = OK;

	pthread_mutex_lock(&s->lock);
	u = find(s, key);
	*ret_new = u == NULL;
	if (u == NULL && make_room(s, &old)) {
		u = upload_new(s, key);
		u->next = s->uploads;
		s->uploads = u;
	} else if (u == NULL) {
		rc = ERR_FULL;
	} else if (u->busy) {
		rc = ERR_AGAIN;
	}
	if (rc == OK) {
		u->busy = true;
		*ret = u;
	}
	pthread_mutex_unlock(&s->lock);
	upload_free(&old);
	return rc;
}

static void set_gone(struct s3 *s, struct s3_upload *u)
{
	pthread_mutex_lock(&s->lock);
	u->gone = true;
	pthread_mutex_unlock(&s->lock);
}

int s3_begin(struct storage *st, const char *key, int64_t offset, struct storage_piece **ret)
{
	struct s3 *s = s3_of(st);
	struct storage_piece *p;
	struct s3_upload *u = NULL;
	bool fresh = false;
	int rc = id_is(key, "") ? take_upload(s, key, &u, &fresh) : ERR_INTERNAL;

	if (rc != OK)
		return rc;
	p = NEW(struct storage_piece);
	p->s3 = s;
	p->u = u;
	if (fresh && was_announced(s, key) && offset == 0)
		start_hash(u);
	else if (fresh)
		rc = load(s, u);
	if (rc != OK)
		set_gone(s, u);
	else if (stands(u) != offset)
		rc = ERR_CONFLICT;
	if (rc != OK)
		s3_end(&p);
	else
		*ret = p;
	return rc;
}

/* Says how far it is; false: its key was forgotten meanwhile. */
static bool tell(struct s3 *s, struct s3_upload *u)
{
	bool ours;

	pthread_mutex_lock(&s->lock);
	u->stands = stands(u);
	u->used_ms = clock_mono_ms();
	ours = !u->gone;
	pthread_mutex_unlock(&s->lock);
	return ours;
}

int s3_write(struct storage_piece *p, const void *bytes, size_t len)
{
	struct s3_upload *u = p->u;
	const char *at = bytes;
	int rc = u->finished_size >= 0 ? ERR_CONFLICT : OK;

	while (rc == OK && len > 0) {
		size_t n = MIN(len, S3_PART_BYTES - u->rest.len);

		ENSURE(strbuf_add(&u->rest, at, n) == OK);
		if (u->hash != NULL)
			ENSURE(EVP_DigestUpdate(u->hash, at, n) == 1);
		at += n;
		len -= n;
		if (u->rest.len == S3_PART_BYTES)
			rc = flush(p->s3, u);
		if (rc != OK)
			set_gone(p->s3, u);
		else if (!tell(p->s3, u))
			rc = ERR_NOT_FOUND;
	}
	return rc;
}

/* ERR_INVALID: it is another one. */
static int check_hash(struct s3_upload *u, const char *sha256)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char hex[SHA256_HEX_LEN];
	unsigned n = 0;

	ENSURE(EVP_DigestFinal_ex(u->hash, digest, &n) == 1 && n == 32);
	EVP_MD_CTX_free(u->hash);
	u->hash = NULL;
	for (size_t i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return strcmp(hex, sha256) == 0 ? OK : ERR_INVALID;
}

/* The object as S3 has it now, for what did not pass here as a whole. */
static int read_back(struct s3 *s, struct s3_upload *u, int64_t size, const char *sha256)
{
	struct storage_file *f = NULL;
	char *buf = mem_alloc(READ_BACK);
	int64_t at = 0;
	size_t n = 0;
	int rc = s->storage.kind->open(&s->storage, u->key, &f);

	EVP_MD_CTX_free(u->hash);
	start_hash(u);
	while (rc == OK && (rc = s->storage.kind->read(f, at, buf, READ_BACK, &n)) == OK) {
		ENSURE(EVP_DigestUpdate(u->hash, buf, n) == 1);
		at += (int64_t)n;
		if (at > size)
			break;
	}
	s->storage.kind->close(&f);
	free(buf);
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	return at == size ? check_hash(u, sha256) : ERR_INVALID;
}

static int put_whole(struct s3 *s, struct s3_upload *u)
{
	const struct s3_request rq = {
	    .method = "PUT", .object = u->object, .body = strbuf_str(&u->rest), .body_len = u->rest.len};
	AUTO_FINI(s3_answer) a = {0};

	return s3_do(s, &rq, &a, NULL);
}

/* ERR_CONFLICT: S3 does not take these parts. */
static int complete(struct s3 *s, struct s3_upload *u)
{
	AUTO_FINI(strbuf) b = STRBUF(XML_MAX);
	AUTO_FINI(s3_answer) a = {0};
	struct s3_request rq = {.method = "POST",
	    .object = u->object,
	    .query = {{"uploadId", u->id}},
	    .n_query = 1,
	    .xml = true,
	    .patient = true};
	int rc;

	strbuf_adds(&b, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < u->n_parts; i++)
		strbuf_addf(&b, "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag></Part>", i + 1, u->etags[i]);
	if (strbuf_adds(&b, "</CompleteMultipartUpload>") != OK)
		return ERR_TOO_LARGE;
	rq.body = strbuf_str(&b);
	rq.body_len = b.len;
	rc = s3_do(s, &rq, &a, NULL);
	return rc == ERR_NET && a.status == 400 ? ERR_CONFLICT : rc;
}

static int abort_it(void *ctx, const struct s3_item *it)
{
	const struct storage_piece *p = ctx;
	int rc = it->upload_id != NULL ? s3_abort_upload(p->s3, p->u->object, it->upload_id, NULL) : OK;

	return rc == ERR_NOT_FOUND ? OK : rc;
}

static int complete_parts(struct storage_piece *p, int64_t size)
{
	struct s3 *s = p->s3;
	struct s3_upload *u = p->u;
	int64_t there = 0;
	int rc = u->rest.len > 0 ? flush(s, u) : OK;

	if (rc == OK)
		rc = complete(s, u);
	/* It may have been done by a request whose answer was lost. */
	if (rc == ERR_NOT_FOUND && s3_size(s, u->key, &there) == OK && there == size)
		rc = OK;
	/* Such as one that it has under another name: from the beginning. */
	if (rc == ERR_CONFLICT)
		IGNORE(s3_each_upload(s, u->object, abort_it, p));
	return rc == ERR_NOT_FOUND || rc == ERR_CONFLICT ? ERR_NET : rc;
}

int s3_finish(struct storage_piece *p, int64_t size, const char sha256[SHA256_HEX_LEN])
{
	struct s3 *s = p->s3;
	struct s3_upload *u = p->u;
	bool passed = u->hash != NULL && u->finished_size < 0;
	int rc = stands(u) == size ? OK : ERR_INVALID;

	if (rc == OK && u->finished_size >= 0)
		return read_back(s, u, size, sha256);
	if (rc == OK && passed)
		rc = check_hash(u, sha256);
	if (rc == OK)
		rc = u->n_parts == 0 ? put_whole(s, u) : complete_parts(p, size);
	if (rc == OK && !passed)
		rc = read_back(s, u, size, sha256);
	/* Whatever came of it: who comes next asks S3. */
	set_gone(s, u);
	if (rc == OK)
		u->finished_size = size;
	return rc;
}

void s3_end(struct storage_piece **pp)
{
	struct storage_piece *p = TAKE(*pp);
	struct s3_upload *u;

	if (p == NULL)
		return;
	u = p->u;
	pthread_mutex_lock(&p->s3->lock);
	u->busy = false;
	u->used_ms = clock_mono_ms();
	u->stands = stands(u);
	if (u->gone || u->finished_size >= 0)
		unlink_upload(p->s3, u);
	else
		u = NULL;
	pthread_mutex_unlock(&p->s3->lock);
	upload_free(&u);
	free(p);
}

void s3_upload_forget(struct s3 *s, const char *key)
{
	struct s3_upload *u;

	pthread_mutex_lock(&s->lock);
	u = find(s, key);
	if (u != NULL)
		u->gone = true;
	if (u != NULL && u->busy)
		u = NULL;
	else if (u != NULL)
		unlink_upload(s, u);
	pthread_mutex_unlock(&s->lock);
	upload_free(&u);
}

void s3_uploads_free(struct s3 *s)
{
	while (s->uploads != NULL) {
		struct s3_upload *u = s->uploads;

		s->uploads = u->next;
		upload_free(&u);
	}
}
